/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a probe includes. Its file is compiled twice: for kernels with type information, and with -DFLOOR for those
 * without. What both know by the same name: license, totals_map, totals_here, passes, add_*, function, another_arity,
 * breakpoint, function_entry. What one of them cannot do stands under #ifdef FLOOR; a probe that says
 * `#define CORE_ONLY` has no object for the floor.
 */
#pragma once
#ifdef FLOOR
#include "floor.h"
#else
#include "hooks.h"
#endif
