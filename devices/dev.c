/* SPDX-License-Identifier: Apache-2.0 */
/* What all devices share: interrupts, breaking, and log lines that a guest cannot turn into a flood. */
#include "devices/dev.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define DEV_LINE_MAX 256 /* bytes of one log line, with the NUL */

void dev_signal(struct dev *dev, unsigned index)
{
	assert(index < DEV_QUEUE_MAX);
	if (vq_should_interrupt(&dev->queue[index]))
		dev->notify(dev, DEV_ISR_QUEUE);
}

void dev_config_changed(struct dev *dev)
{
	dev->notify(dev, DEV_ISR_CONFIG);
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* A line may be written now; *dropped says how many were not since the last one. */
static bool log_admit(struct dev *dev, uint32_t *dropped)
{
	uint64_t now = now_ns();

	if (now - dev->log_window.since_ns >= DEV_LOG_NS) {
		dev->log_window.since_ns = now;
		dev->log_window.lines = 0;
	}
	if (dev->log_window.lines == DEV_LOG_LINES) {
		dev->log_window.dropped++;
		return false;
	}
	dev->log_window.lines++;
	*dropped = dev->log_window.dropped;
	dev->log_window.dropped = 0;
	return true;
}

void dev_log(struct dev *dev, const char *fmt, ...)
{
	char text[DEV_LINE_MAX / 2], line[DEV_LINE_MAX];
	uint32_t dropped;
	va_list ap;

	if (!dev->log || !log_admit(dev, &dropped))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "device=%s event=%s dropped=%u", dev->id, text, dropped);
	dev->log(dev->log_ctx, line);
}

void dev_break(struct dev *dev, const char *why)
{
	if (__atomic_exchange_n(&dev->broken, true, __ATOMIC_ACQ_REL))
		return;
	dev->active = false;
	__atomic_fetch_add(&dev->breaks, 1, __ATOMIC_RELAXED);
	dev_log(dev, "broken-by-guest why=\"%s\"", why);
	dev_config_changed(dev);
}
