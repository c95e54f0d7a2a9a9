#include <zmq.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif
