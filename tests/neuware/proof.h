/* What proofs of numbers and structures are written with (runtime/<library>/tests/layout.c): each line is checked when it is compiled, as C11 and as C++17. */

#ifndef PROOF_H
#define PROOF_H

#include <stddef.h>

#ifdef __cplusplus
#define PROOF(condition, text) static_assert(condition, text)
#else
#define PROOF(condition, text) _Static_assert(condition, text)
#endif
#define IS(name, value) PROOF((long long)(name) == (value), "number of " #name)
#define SIZE(type, size) PROOF(sizeof(type) == (size), "size of " #type)
#define AT(type, field, offset) PROOF(offsetof(type, field) == (offset), "place of " #type "." #field)

#endif
