/* SPDX-License-Identifier: Apache-2.0 */
/* A memory plan from another process: what is accepted must cover the machine from inside its sources. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/plan.h"

#define PAGES   64u
#define SOURCES 3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int source[SOURCES];

static void make_sources(void)
{
	for (unsigned i = 0; i < SOURCES; i++) {
		source[i] = memfd_create("source", MFD_CLOEXEC);
		VERIFY(source[i] >= 0 && !ftruncate(source[i], (off_t)(16u << i) * SNAP_PAGE_SIZE));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snap_run run[PAGES + 1];
	size_t count = size / sizeof(run[0]);
	struct errmsg why;
	uint64_t next = 0;

	if (!source[0])
		make_sources();
	if (count > PAGES + 1)
		count = PAGES + 1;
	memcpy(run, data, count * sizeof(run[0]));
	struct snap_plan plan = {
		.runs = {.run = run, .count = count}, .fd = source, .source_count = SOURCES};
	if (snap_plan_check(&plan, PAGES, PAGES, &why))
		return 0;
	for (size_t i = 0; i < count; i++) {
		VERIFY(run[i].page == next && run[i].count);
		next += run[i].count;
		if (run[i].kind == SNAP_RUN_MAP)
			VERIFY(run[i].off / SNAP_PAGE_SIZE + run[i].count <= 16u << run[i].source);
	}
	VERIFY(next == PAGES);
	return 0;
}
