/* How the programs of these tests check. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

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

#endif
