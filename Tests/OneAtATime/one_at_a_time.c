// One test at a time, however the tests are started: many wait for processes and sockets, and those that compute would starve them on
// a machine with two cores. Swift Testing reads the variable before its first test; a value that is set already stays.
#include "one_at_a_time.h"

#include <stdlib.h>

__attribute__((constructor)) static void run_one_at_a_time(void) {
    setenv("SWT_EXPERIMENTAL_MAXIMUM_PARALLELIZATION_WIDTH", "1", 0);
}
