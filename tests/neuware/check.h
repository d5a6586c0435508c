/* How the programs of these tests check. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) {                                                     \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
      exit(1);                                                              \
    }                                                                       \
  } while (0)

/* A call that gives a code. */
#define GIVES(code, call)                                                                          \
  do {                                                                                             \
    long given_ = (long)(call);                                                                    \
    if (given_ != (long)(code)) {                                                                  \
      fprintf(stderr, "%s:%d: %s gives %ld, not %s\n", __FILE__, __LINE__, #call, given_, #code);  \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#define OK(call) GIVES(0, call)

/* A number that is none of an enumeration's. */
#define NONE(type) none_##type()
#define DEFINE_NONE(type)                                \
  static type none_##type(void) {                        \
    int number = 0x7777;                                 \
    type value;                                          \
    memcpy(&value, &number, sizeof value);               \
    return value;                                        \
  }

#endif
