/* Preloaded into a daemon written in Go: exchanges the vDSO for the file VDSO before Go's runtime looks for it.
 *
 * The runtime finds it by the auxiliary vector on the stack, behind the environment. The daemon's clock then differs from
 * the machine's by the seconds in the file OFFSET, eight bytes, which may change at any time. */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OFFSET ((void *)0x700000000000)

static void *map(const char *path, void *place, int protection)
{
    struct stat found;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &found) < 0)
        abort();
    int flags = MAP_SHARED | (place ? MAP_FIXED_NOREPLACE : 0);
    void *at = mmap(place, (size_t)found.st_size, protection, flags, descriptor, 0);
    close(descriptor);
    if (at == MAP_FAILED)
        abort();
    return at;
}

__attribute__((constructor)) static void exchange(int argc, char **argv, char **environment)
{
    const char *vdso = getenv("VDSO"), *offset = getenv("OFFSET");
    (void)argc;
    (void)argv;
    if (!vdso || !offset)
        return;
    while (*environment)
        environment++;
    for (Elf64_auxv_t *entry = (Elf64_auxv_t *)(environment + 1); entry->a_type != AT_NULL; entry++) {
        if (entry->a_type != AT_SYSINFO_EHDR)
            continue;
        map(offset, OFFSET, PROT_READ);
        entry->a_un.a_val = (unsigned long)map(vdso, NULL, PROT_READ | PROT_EXEC);
    }
}
