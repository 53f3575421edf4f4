/* SPDX-License-Identifier: Apache-2.0 */
/* config_int.h - how sections are read; between config.c and config_net.c only */
#ifndef SPORE_VMM_CONFIG_INT_H
#define SPORE_VMM_CONFIG_INT_H

#include <jansson.h>

#include "base/cleanup.h"
#include "vmm/config.h"

#define QUOTE_MAX 80 /* bytes of a value that a message shows */

enum field_kind { FIELD_TEXT, FIELD_BOOL, FIELD_UINT, FIELD_WORD, FIELD_LIMITER, FIELD_REFUSED };

struct field {
	const char *name;
	enum field_kind kind;
	bool required;
	size_t offset;     /* char *, bool, uint64_t, unsigned or struct limiter_cfg */
	uint64_t min, max; /* of the number, or of the text's length in bytes */
	const char *const
		*word;      /* FIELD_WORD: the values, NULL at the end; their index is stored */
	const char *reason; /* FIELD_REFUSED */
};

/* A value as JSON text in ASCII, cut to QUOTE_MAX: safe to print whatever the file holds. */
const char *config_quote(const json_t *value, char out[static QUOTE_MAX]);

/* Walks an object against its table.  Fields that are null or absent leave `base` as it is. */
int config_take_object(void *base, const struct field *fields, size_t count, json_t *object,
		       const char *where, struct errmsg *why);
#define TAKE_OBJECT(base, fields, object, where, why) \
	config_take_object(base, fields, ARRAY_LEN(fields), object, where, why)

/* Letters, digits and the characters of `more`. */
bool config_only_characters(const char *text, const char *more);

int config_take_limiter(struct limiter_cfg *out, const char *name, json_t *value, const char *where,
			struct errmsg *why);
int config_take_nets(struct config *cfg, json_t *array, struct errmsg *why);
void config_net_free(struct config_net *net);

#endif
