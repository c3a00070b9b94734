/* Starts the bundle's interpreter through the bundle's own dynamic loader, so that no library of the host is used.
 *
 * ROOT is two folders above this program. Called by the name `python` it is a plain interpreter (sys.executable of the
 * bundle); by any other name it runs auditor. Environment variables that add libraries are removed. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

static char self[PATH_MAX], loader[PATH_MAX + 32], libraries[PATH_MAX + 32], python[PATH_MAX + 32], name[PATH_MAX + 32];

static int own_path(void) {
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = 0;
        return 1;
    }
    const char *started = (const char *)getauxval(AT_EXECFN); /* no /proc */
    return started && realpath(started, self);
}

int main(int argc, char **argv) {
    if (!own_path()) {
        fputs("auditor: the path of the program cannot be found: /proc is absent and the path is not readable\n", stderr);
        return 126;
    }
    char *root = dirname(dirname(self));
    snprintf(loader, sizeof loader, "%s/lib/auditor", root);
    snprintf(libraries, sizeof libraries, "%s/lib", root);
    snprintf(python, sizeof python, "%s/lib/python", root);
    snprintf(name, sizeof name, "%s/bin/python", root);
    const char *called = strrchr(argv[0] ? argv[0] : "auditor", '/');
    called = called ? called + 1 : argv[0];
    int plain = called && strcmp(called, "python") == 0;

    char **words = calloc((size_t)argc + 16, sizeof *words);
    if (!words) return 126;
    int n = 0;
    words[n++] = "auditor";
    words[n++] = "--inhibit-cache";
    words[n++] = "--library-path";
    words[n++] = libraries;
    words[n++] = "--argv0";
    words[n++] = name;
    words[n++] = python;
    if (!plain) {
        words[n++] = "-IS";
        words[n++] = "-X";
        words[n++] = "utf8";
        words[n++] = "-m";
        words[n++] = "auditor";
    }
    for (int i = 1; i < argc; i++) words[n++] = argv[i];
    unsetenv("LD_PRELOAD");
    unsetenv("LD_LIBRARY_PATH");
    unsetenv("LD_AUDIT");
    sigset_t ending; /* auditor unblocks them once they have handlers: until then Python would print a traceback */
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    if (!plain) sigprocmask(SIG_BLOCK, &ending, NULL);
    execv(loader, words);
    fprintf(stderr, "auditor: %s cannot be started (%s); the folder must be kept whole, a link to bin/auditor works\n",
            loader, strerror(errno));
    return 126;
}
