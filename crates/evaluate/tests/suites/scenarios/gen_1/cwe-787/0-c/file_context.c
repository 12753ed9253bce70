#include <string.h>

