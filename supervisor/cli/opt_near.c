/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the distance counts insertions, deletions, substitutions and swaps of neighbours. */
#include "supervisor/cli/opt.h"

#include <string.h>

#define NEAR_MAX 32 /* longer words are never near */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;
	return ab < c ? ab : c;
}

static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned row[NEAR_MAX + 1][NEAR_MAX + 1];

	for (unsigned i = 0; i <= a_len; i++)
		row[i][0] = i;
	for (unsigned j = 0; j <= b_len; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= a_len; i++)
		for (size_t j = 1; j <= b_len; j++) {
			unsigned differ = a[i - 1] != b[j - 1];
			row[i][j] = min3(row[i - 1][j] + 1, row[i][j - 1] + 1,
					 row[i - 1][j - 1] + differ);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    row[i - 2][j - 2] + 1 < row[i][j])
				row[i][j] = row[i - 2][j - 2] + 1;
		}
	return row[a_len][b_len];
}

const char *opt_nearest(const char *given, const char *const *words)
{
	size_t len = strcspn(given, "=");
	unsigned best = len < 4 ? 2 : 3; /* not included */
	const char *near = NULL;

	for (; *words && len <= NEAR_MAX; words++) {
		size_t word_len = strlen(*words);
		if (word_len > NEAR_MAX)
			continue;
		unsigned d = distance(given, len, *words, word_len);
		if (d < best) {
			best = d;
			near = *words;
		}
	}
	return near;
}
