/* Preloaded into a process: its wall clock jumps by JUMP seconds when AFTER milliseconds have passed since its start. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long long monotonic(void)
{
    struct timespec at;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000LL + at.tv_nsec / 1000000;
}

static long long begun, after, jump;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("AFTER");
    after = text ? atoll(text) : 0;
    text = getenv("JUMP");
    jump = text ? atoll(text) : 0;
    begun = monotonic();
}

static long long shift(void)
{
    return monotonic() - begun >= after ? jump : 0;
}

int clock_gettime(clockid_t id, struct timespec *at)
{
    int failed = (int)syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        at->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    int failed = (int)syscall(SYS_gettimeofday, at, zone);
    if (!failed && at)
        at->tv_sec += shift();
    return failed;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
