// Shows Swift's Mutex to ThreadSanitizer; preloaded by dev/sanitize.
//
// The fast paths of lock and unlock are compiled into our code and seen. A contended Mutex waits in libswiftSynchronization, which is not
// instrumented: what two threads do one after the other under the lock would be reported as a race. These stand before its two functions.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

// In programs that are built for ThreadSanitizer; not in the shells and scripts between them.
extern void __tsan_acquire(void *) __attribute__((weak));
extern void __tsan_release(void *) __attribute__((weak));

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *mutex

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"  // _MutexHandle._lockSlow(UInt32) -> ()
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"       // _MutexHandle._unlockSlow() -> ()

// The library's own; null in programs without Swift, where nobody calls these.
static SWIFT void (*library_lock)(uint32_t, SELF);
static SWIFT void (*library_unlock)(SELF);

__attribute__((constructor)) static void look_up(void) {
    library_lock = (SWIFT void (*)(uint32_t, SELF))dlsym(RTLD_NEXT, LOCK);
    library_unlock = (SWIFT void (*)(SELF))dlsym(RTLD_NEXT, UNLOCK);
}

SWIFT void lock_slow(uint32_t thread, SELF) __asm__(LOCK);
SWIFT void lock_slow(uint32_t thread, SELF) {
    library_lock(thread, mutex);
    if (__tsan_acquire) __tsan_acquire(mutex);
}

SWIFT void unlock_slow(SELF) __asm__(UNLOCK);
SWIFT void unlock_slow(SELF) {
    if (__tsan_release) __tsan_release(mutex);
    library_unlock(mutex);
}
