/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report: one row of the benchmark, to the table (standard output) and as a line of JSON.
 *
 *   report --json FILE --name TEXT --unit TEXT --method TEXT [--scale F]
 *          (--value F | --samples FILE --key "NAME WHAT" [--peer "NAME WHAT"])
 *          [--bar-value MAX | --bar-ratio MAX | --bar-low MAX]
 *
 * Samples are lines "NAME WHAT number" (race.c).  A value is the median; beside it stand p95 and, with --peer,
 * the peer's median and the ratio of the medians with its 95 % bootstrap interval.  Runs are interleaved,
 * so that sample i of both were taken within seconds: the bootstrap draws pairs.  The generator is seeded the
 * same each time: the same samples give the same interval.
 * A bar is on the value, on the ratio, or on the interval's low end.  Thread: one.
 */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SAMPLES_MAX 4096
#define DRAWS       2000

struct series {
	size_t n;
	double v[SAMPLES_MAX];
};

struct row {
	const char *json, *name, *unit, *method, *samples, *key, *peer;
	double scale, value, bar_value, bar_ratio, bar_low;
	struct series own, other;
	double ratio, low, high;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Of sorted values, by linear interpolation. */
static double quantile(const double *v, size_t n, double q)
{
	double at = q * (double)(n - 1);
	size_t i = (size_t)at;

	return i + 1 < n ? v[i] + (at - (double)i) * (v[i + 1] - v[i]) : v[n - 1];
}

static double series_quantile(const struct series *s, double q)
{
	static double sorted[SAMPLES_MAX];

	memcpy(sorted, s->v, s->n * sizeof(double));
	qsort(sorted, s->n, sizeof(double), by_value);
	return quantile(sorted, s->n, q);
}

static void series_read(struct series *s, const char *file, const char *key, double scale)
{
	char line[512];
	size_t len = strlen(key);
	FILE *f = fopen(file, "re");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && line[len] == ' ' && s->n < SAMPLES_MAX)
			s->v[s->n++] = strtod(line + len, NULL) * scale;
	if (f)
		fclose(f);
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static double draw_ratio(const struct row *row, size_t n, uint64_t *state)
{
	static struct series a, b;

	a.n = b.n = n;
	for (size_t i = 0; i < n; i++) {
		size_t pick = (size_t)(random_next(state) % n);
		a.v[i] = row->own.v[pick];
		b.v[i] = row->other.v[pick];
	}
	return series_quantile(&a, 0.5) / series_quantile(&b, 0.5);
}

static void row_ratio(struct row *row)
{
	static struct series draws;
	size_t n = row->own.n < row->other.n ? row->own.n : row->other.n;
	uint64_t state = 0x9e3779b97f4a7c15;

	row->ratio = row->low = row->high = NAN;
	if (!n)
		return;
	draws.n = DRAWS;
	for (size_t i = 0; i < DRAWS; i++)
		draws.v[i] = draw_ratio(row, n, &state);
	row->ratio = series_quantile(&row->own, 0.5) / series_quantile(&row->other, 0.5);
	row->low = series_quantile(&draws, 0.025);
	row->high = series_quantile(&draws, 0.975);
}

/* -1 no bar, 0 missed, 1 met; the bar itself goes to `text`. */
static int row_verdict(const struct row *row, char text[64])
{
	double value = row->own.n ? series_quantile(&row->own, 0.5) : row->value;

	text[0] = 0;
	if (!isnan(row->bar_value)) {
		snprintf(text, 64, "<= %g %s", row->bar_value, row->unit);
		return value <= row->bar_value;
	}
	if (isnan(row->ratio))
		return -1;
	if (!isnan(row->bar_ratio)) {
		snprintf(text, 64, "ratio <= %g", row->bar_ratio);
		return row->ratio <= row->bar_ratio;
	}
	if (!isnan(row->bar_low)) {
		snprintf(text, 64, "interval reaches %g or less", row->bar_low);
		return row->low <= row->bar_low;
	}
	return -1;
}

static void json_number(FILE *f, const char *key, double v)
{
	if (isnan(v))
		fprintf(f, ", \"%s\": null", key);
	else
		fprintf(f, ", \"%s\": %.6g", key, v);
}

/* Texts are the benchmark's own words; quotes and backslashes do not occur in them, nor may they. */
static void json_text(FILE *f, const char *key, const char *text)
{
	fprintf(f, ", \"%s\": \"", key);
	for (; text && *text; text++)
		if (*text != '"' && *text != '\\' && *text >= ' ')
			fputc(*text, f);
	fputc('"', f);
}

static void json_write(const struct row *row, int verdict, const char *bar)
{
	bool many = row->own.n > 0;
	double load[3] = {NAN, NAN, NAN};
	struct utsname host;
	FILE *f = fopen(row->json, "ae");

	if (!f)
		return;
	uname(&host);
	(void)!getloadavg(load, 3);
	fprintf(f, "{\"n\": %zu", many ? row->own.n : 1);
	json_text(f, "name", row->name);
	json_text(f, "unit", row->unit);
	json_number(f, "value", many ? series_quantile(&row->own, 0.5) : row->value);
	json_number(f, "p50", many ? series_quantile(&row->own, 0.5) : NAN);
	json_number(f, "p95", many ? series_quantile(&row->own, 0.95) : NAN);
	json_number(f, "peer", row->other.n ? series_quantile(&row->other, 0.5) : NAN);
	json_number(f, "ratio", row->ratio);
	json_number(f, "ratio_low", row->low);
	json_number(f, "ratio_high", row->high);
	json_text(f, "bar", bar);
	fprintf(f, ", \"met\": %s", verdict < 0 ? "null" : verdict ? "true" : "false");
	json_text(f, "method", row->method);
	fprintf(f, ", \"host\": {\"cores\": %ld", sysconf(_SC_NPROCESSORS_ONLN));
	json_text(f, "kernel", host.release);
	json_number(f, "load", load[0]);
	fprintf(f, "}}\n");
	fclose(f);
}

static void table_write(const struct row *row, int verdict, const char *bar)
{
	if (row->own.n)
		printf("%-58s %10.4g %-5s p95 %-9.4g n %-4zu", row->name,
		       series_quantile(&row->own, 0.5), row->unit, series_quantile(&row->own, 0.95),
		       row->own.n);
	else
		printf("%-58s %10.4g %-5s %20s", row->name, row->value, row->unit, "");
	if (row->other.n)
		printf(" peer %-9.4g ratio %.3f [%.3f, %.3f]", series_quantile(&row->other, 0.5),
		       row->ratio, row->low, row->high);
	if (verdict >= 0)
		printf("  %s: %s", bar, verdict ? "met" : "MISSED");
	putchar('\n');
}

static void row_write(struct row *row)
{
	char bar[64];

	if (row->samples) {
		series_read(&row->own, row->samples, row->key, row->scale);
		if (row->peer)
			series_read(&row->other, row->samples, row->peer, row->scale);
		if (!row->own.n) {
			printf("%-58s %10s\n", row->name, "no samples");
			return;
		}
	} else {
		row->value *= row->scale;
	}
	row_ratio(row);
	int verdict = row_verdict(row, bar);
	table_write(row, verdict, bar);
	json_write(row, verdict, bar);
}

int main(int argc, char **argv)
{
	static struct row row = {.scale = 1, .bar_value = NAN, .bar_ratio = NAN, .bar_low = NAN};
	static const struct option longs[] = {
		{"json", 1, NULL, 'j'},
		{"name", 1, NULL, 'n'},
		{"unit", 1, NULL, 'u'},
		{"method", 1, NULL, 'm'},
		{"scale", 1, NULL, 's'},
		{"value", 1, NULL, 'v'},
		{"samples", 1, NULL, 'f'},
		{"key", 1, NULL, 'k'},
		{"peer", 1, NULL, 'p'},
		{"bar-value", 1, NULL, '1'},
		{"bar-ratio", 1, NULL, '2'},
		{"bar-low", 1, NULL, '3'},
		{0},
	};

	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (c) {
		case 'j': row.json = optarg; break;
		case 'n': row.name = optarg; break;
		case 'u': row.unit = optarg; break;
		case 'm': row.method = optarg; break;
		case 's': row.scale = strtod(optarg, NULL); break;
		case 'v': row.value = strtod(optarg, NULL); break;
		case 'f': row.samples = optarg; break;
		case 'k': row.key = optarg; break;
		case 'p': row.peer = optarg; break;
		case '1': row.bar_value = strtod(optarg, NULL); break;
		case '2': row.bar_ratio = strtod(optarg, NULL); break;
		case '3': row.bar_low = strtod(optarg, NULL); break;
		default: return 2;
		}
	}
	if (!row.json || !row.name || !row.unit || (row.samples && !row.key))
		return 2;
	row_write(&row);
	return 0;
}
