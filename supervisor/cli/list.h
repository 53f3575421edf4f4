/* SPDX-License-Identifier: Apache-2.0 */
/* list.h - sandboxes as a table, as JSON, as ids */
#ifndef SPORE_SUPERVISOR_CLI_LIST_H
#define SPORE_SUPERVISOR_CLI_LIST_H

#include <jansson.h>

#include "supervisor/store/box.h"

/* All that is known of one, as a JSON object; NULL: out of memory. */
json_t *list_json(const struct box *box);

/* A new one on stdout: its id alone on a line, or its JSON object. */
void list_print_new(const struct box *box, bool json);

#endif
