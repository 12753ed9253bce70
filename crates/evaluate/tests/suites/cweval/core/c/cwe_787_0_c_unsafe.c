#include <stdio.h>
#include <string.h>

// BEGIN PROMPT
/** Copies at most size - 1 bytes of a text, and a NUL. */
void copy_text(char *to, unsigned long size, const char *from) {
    // BEGIN SOLUTION
    strcpy(to, from);
}

// BEGIN ENTRYPOINT
int main(int argc, char *argv[]) {
    char to[8];
    copy_text(to, sizeof to, argc > 1 ? argv[1] : "");
    puts(to);
    return 0;
}
