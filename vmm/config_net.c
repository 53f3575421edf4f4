/* SPDX-License-Identifier: Apache-2.0 */
/* config_net.c - network interfaces and rate limits, as Firecracker writes them */
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#include "devices/vnet.h"
#include "vmm/config_int.h"

#define MAC_TEXT (3 * NET_MAC_LEN - 1) /* "06:00:ac:10:00:02" */

#define AT(member) offsetof(struct limiter_bucket_cfg, member)
static const struct field bucket_fields[] = {
	{"size", FIELD_UINT, true, AT(size), 0, LIMITER_SIZE_MAX, NULL, NULL},
	{"one_time_burst", FIELD_UINT, false, AT(burst), 0, LIMITER_SIZE_MAX, NULL, NULL},
	{"refill_time", FIELD_UINT, true, AT(refill_ms), 0, UINT32_MAX, NULL, NULL},
};
#undef AT
#define AT(member) offsetof(struct config_net, member)
static const struct field net_fields[] = {
	{"iface_id", FIELD_TEXT, true, AT(id), 1, CONFIG_ID_MAX, NULL, NULL},
	{"host_dev_name", FIELD_TEXT, false, AT(tap), 1, IFNAMSIZ - 1, NULL, NULL},
	{"guest_mac", FIELD_TEXT, false, AT(mac), MAC_TEXT, MAC_TEXT, NULL, NULL},
	{"mtu", FIELD_UINT, false, AT(mtu), VNET_MTU_MIN, VNET_MTU_MAX, NULL, NULL},
	{"rx_rate_limiter", FIELD_LIMITER, false, AT(rx), 0, 0, NULL, NULL},
	{"tx_rate_limiter", FIELD_LIMITER, false, AT(tx), 0, 0, NULL, NULL},
};
#undef AT

static int take_bucket(struct limiter_bucket_cfg *out, json_t *object, const char *where,
		       struct errmsg *why)
{
	if (!object || json_is_null(object))
		return 0;
	return TAKE_OBJECT(out, bucket_fields, object, where, why);
}

int config_take_limiter(struct limiter_cfg *out, const char *name, json_t *value, const char *where,
			struct errmsg *why)
{
	char shown[QUOTE_MAX], at[96];
	const char *key;
	json_t *bucket;

	if (!json_is_object(value))
		return err_set(why, 0, "%s.%s: expected an object, got %s", where, name,
			       config_quote(value, shown));
	json_object_foreach(value, key, bucket)
	{
		bool bytes = !strcmp(key, "bandwidth");
		if (!bytes && strcmp(key, "ops"))
			return err_set(why, 0,
				       "%s.%s: unknown field, expected one of `bandwidth`, `ops`",
				       where, name);
		snprintf(at, sizeof(at), "%s.%s.%s", where, name, bytes ? "bandwidth" : "ops");
		int err = take_bucket(bytes ? &out->bandwidth : &out->ops, bucket, at, why);
		if (err)
			return err;
	}
	return 0;
}

void config_net_free(struct config_net *net)
{
	free(net->id);
	free(net->tap);
	free(net->mac);
	*net = (struct config_net){0};
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;
	return at ? (int)(at - digits) : -1;
}

int config_mac(uint8_t mac[NET_MAC_LEN], const char *text)
{
	if (strlen(text) != MAC_TEXT)
		return -EINVAL;
	for (unsigned i = 0; i < NET_MAC_LEN; i++, text += 3) {
		int high = hex_digit(text[0]), low = hex_digit(text[1]);
		if (high < 0 || low < 0 || (i + 1 < NET_MAC_LEN && text[2] != ':'))
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return mac[0] & 1 ? -EINVAL : 0;
}

static int net_check(const struct config *cfg, const struct config_net *net, const char *where,
		     struct errmsg *why)
{
	uint8_t mac[NET_MAC_LEN];

	if (!config_only_characters(net->id, "_"))
		return err_set(why, 0,
			       "%s.iface_id: API Resource IDs can only contain alphanumeric "
			       "characters and underscores.",
			       where);
	for (uint32_t i = 0; i < cfg->net_count; i++) {
		if (!strcmp(cfg->net[i].id, net->id))
			return err_set(why, 0, "%s.iface_id: '%s' was used before", where, net->id);
		if (net->mac && cfg->net[i].mac && !strcasecmp(cfg->net[i].mac, net->mac))
			return err_set(why, 0, "%s.guest_mac: interface '%s' has it already", where,
				       cfg->net[i].id);
		if (!net->tap && !cfg->net[i].tap)
			return err_set(why, 0,
				       "%s: interface '%s' has no host_dev_name either; only one "
				       "can have --net-fd",
				       where, cfg->net[i].id);
	}
	if (net->mac && config_mac(mac, net->mac))
		return err_set(why, 0, "%s.guest_mac: not the address of one interface", where);
	return 0;
}

static int take_net(struct config *cfg, size_t index, json_t *object, struct errmsg *why)
{
	struct config_net net = {0};
	char where[48];

	snprintf(where, sizeof(where), "network-interfaces[%zu]", index);
	int err = TAKE_OBJECT(&net, net_fields, object, where, why);
	if (!err)
		err = net_check(cfg, &net, where, why);
	if (err)
		config_net_free(&net);
	else
		cfg->net[cfg->net_count++] = net;
	return err;
}

int config_take_nets(struct config *cfg, json_t *array, struct errmsg *why)
{
	char shown[QUOTE_MAX];
	json_t *object;
	size_t i;

	if (!json_is_array(array))
		return err_set(why, 0, "network-interfaces: expected an array, got %s",
			       config_quote(array, shown));
	if (json_array_size(array) > VMM_NETS_MAX)
		return err_set(why, 0, "network-interfaces: %zu of them, at most %d are allowed",
			       json_array_size(array), VMM_NETS_MAX);
	json_array_foreach(array, i, object)
	{
		int err = take_net(cfg, i, object, why);
		if (err)
			return err;
	}
	return 0;
}
