/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Files on the floor: the breakpoints of file.bpf.c under the same names.
 */
#include "include/floor.h"

license;

on_call(open, FILE_OPEN)
on_call(close, FILE_CLOSE)
on_call(read, FILE_READ)
on_call(readv, FILE_READV)
on_call(write, FILE_WRITE)
on_call(writev, FILE_WRITEV)
on_call(unlink, FILE_UNLINK)

on_kreturn(open, FILE_OPEN, int_error, no_bytes)
on_kreturn(close, FILE_CLOSE, int_error, no_bytes)
on_kreturn(close_file, FILE_CLOSE, null_error, no_bytes)
on_kreturn(read, FILE_READ, long_error, positive)
on_kreturn(readv, FILE_READV, long_error, positive)
on_kreturn(write, FILE_WRITE, long_error, positive)
on_kreturn(writev, FILE_WRITEV, long_error, positive)
on_kreturn(unlink, FILE_UNLINK, int_error, no_bytes)
