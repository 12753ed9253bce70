void copy(char *to, const char *from) {
    // copy the text
