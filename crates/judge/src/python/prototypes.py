"""C prototypes to ctypes signatures: scalars, enumerations and pointers; everything else is opaque."""

import ctypes
import re


class Misuse(TypeError):
    """The test asked for something that the interface does not offer, or with the wrong arguments."""


class Type:
    """A C type: `kind` is void, integer, float, pointer or opaque."""

    def __init__(self, kind, name, ctype=None, target=None, constant=False):
        self.kind, self.name, self.ctype, self.target, self.constant = kind, name, ctype, target, constant

    def pointer(self):
        return Type("pointer", self.name + " *", ctypes.c_void_p, self)

    def qualified(self):
        return Type(self.kind, self.name, self.ctype, self.target, True)

    def size(self):
        return ctypes.sizeof(self.ctype)

    def is_text(self):
        return self.kind == "pointer" and self.target.name == "char"


def scalar_types():
    types = {"void": Type("void", "void"), "_Bool": Type("integer", "bool", ctypes.c_bool),
             "float": Type("float", "float", ctypes.c_float), "double": Type("float", "double", ctypes.c_double)}
    types["bool"] = types["_Bool"]
    integers = {
        "char": ctypes.c_byte, "signed char": ctypes.c_byte, "unsigned char": ctypes.c_ubyte, "short": ctypes.c_short,
        "unsigned short": ctypes.c_ushort, "int": ctypes.c_int, "unsigned int": ctypes.c_uint, "long": ctypes.c_long,
        "unsigned long": ctypes.c_ulong, "long long": ctypes.c_longlong, "unsigned long long": ctypes.c_ulonglong,
        "size_t": ctypes.c_size_t, "ssize_t": ctypes.c_ssize_t, "ptrdiff_t": ctypes.c_ssize_t,
        "intptr_t": ctypes.c_ssize_t, "uintptr_t": ctypes.c_size_t, "intmax_t": ctypes.c_int64,
        "uintmax_t": ctypes.c_uint64, "time_t": ctypes.c_long, "off_t": ctypes.c_long, "mode_t": ctypes.c_uint,
        "pid_t": ctypes.c_int, "wchar_t": ctypes.c_int, "uid_t": ctypes.c_uint, "gid_t": ctypes.c_uint,
        "u_char": ctypes.c_ubyte, "uint": ctypes.c_uint, "ulong": ctypes.c_ulong, "ushort": ctypes.c_ushort,
    }
    for bits in (8, 16, 32, 64):
        integers["int%d_t" % bits] = getattr(ctypes, "c_int%d" % bits)
        integers["uint%d_t" % bits] = getattr(ctypes, "c_uint%d" % bits)
    for name, ctype in integers.items():
        types[name] = Type("integer", name, ctype)
    return types


QUALIFIERS = frozenset("volatile restrict __restrict __restrict__ extern static inline __inline __inline__ register "
                       "_Noreturn noreturn auto".split())
WORDS = frozenset("char short int long signed unsigned float double void".split())
TOKEN = re.compile(r"[A-Za-z_]\w*|\.\.\.|\d\w*|[^\s\w]")


class Function:
    """One prototype."""

    def __init__(self, name, result, parameters, variadic):
        self.name, self.result, self.parameters, self.variadic = name, result, parameters, variadic


class Prototypes:
    """Everything that a text declares. What cannot be understood is left out: a test that uses it is told so."""

    def __init__(self, text):
        self.types = scalar_types()
        self.functions = {}
        text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
        text = re.sub(r"//[^\n]*", " ", text)
        text = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.)*", " ", text, flags=re.M | re.S)
        text = re.sub(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", "0", text)
        for tokens in statements(TOKEN.findall(text)):
            try:
                self.statement(tokens)
            except (Misuse, IndexError):
                continue

    def statement(self, tokens):
        if tokens[0] == "typedef":
            self.typedef(tokens[1:])
        elif "(" in tokens and "{" not in tokens[:tokens.index("(")] and "=" not in tokens:
            opening = tokens.index("(")
            name = tokens[opening - 1]
            result = self.type(tokens[:opening - 1])
            closing = matching(tokens, opening)
            inner = tokens[opening + 1:closing]
            parameters, variadic = [], False
            if inner and inner != ["void"]:
                for each in split(inner):
                    if each == ["..."]:
                        variadic = True
                    else:
                        parameters.append(self.parameter(each))
            self.functions[name] = Function(name, result, parameters, variadic)

    def typedef(self, tokens):
        if "(" in tokens:
            opening = tokens.index("(")
            if tokens[opening + 1] == "*":
                self.types[tokens[opening + 2]] = Type("pointer", "function *", ctypes.c_void_p,
                                                       Type("opaque", "function"))
            return
        if "[" in tokens:
            tokens = tokens[:tokens.index("[")]
            self.types[tokens[-1]] = Type("opaque", tokens[-1])
            return
        # Only the first of several names that one typedef may define carries the type in this simple form.
        first = split(tokens)[0]
        self.types[first[-1]] = self.type(first[:-1])

    def parameter(self, tokens):
        if "(" in tokens:
            return Type("pointer", "function *", ctypes.c_void_p, Type("opaque", "function"))
        if "[" in tokens:
            opening = tokens.index("[")
            return self.type(self.without_name(tokens[:opening])).pointer()
        return self.type(self.without_name(tokens))

    def without_name(self, tokens):
        """A parameter's type, without the name that may follow it."""
        last = tokens[-1]
        words = [token for token in tokens if token not in QUALIFIERS and token != "const"]
        if not (last[0].isalpha() or last[0] == "_") or last in WORDS or last in QUALIFIERS or last == "const":
            return tokens
        if len(words) == 1 or (len(words) == 2 and words[0] in ("struct", "union", "enum")):
            return tokens
        return tokens[:-1]

    def type(self, tokens):
        """The type that these tokens name, without any declared name."""
        tokens = [token for token in tokens if token not in QUALIFIERS]
        if "{" in tokens:
            opening = tokens.index("{")
            closing = matching(tokens, opening)
            tokens = tokens[:opening] + tokens[closing + 1:]
            if len(tokens) == 1:
                tokens.append("anonymous")
        while "__attribute__" in tokens:
            place = tokens.index("__attribute__")
            del tokens[place:matching(tokens, place + 1) + 1]
        stars = tokens.index("*") if "*" in tokens else len(tokens)
        base, rest = tokens[:stars], tokens[stars:]
        constant = "const" in base
        base = [token for token in base if token != "const"]
        if not base:
            raise Misuse("no type")
        found = self.base(base)
        if constant:
            found = found.qualified()
        for token in rest:
            if token == "*":
                found = found.pointer()
            elif token == "const":
                found = found.qualified()
            else:
                raise Misuse("not a type: %s" % " ".join(tokens))
        return found

    def base(self, words):
        if words[0] == "enum":
            return self.types["int"]
        if words[0] in ("struct", "union"):
            return Type("opaque", " ".join(words))
        if len(words) == 1 and words[0] in self.types:
            return self.types[words[0]]
        if all(word in WORDS for word in words):
            if "double" in words:
                return Type("opaque", "long double") if "long" in words else self.types["double"]
            unsigned = "unsigned" in words
            if "char" in words:
                return self.types["unsigned char" if unsigned else "signed char" if "signed" in words else "char"]
            width = "short" if "short" in words else {0: "int", 1: "long", 2: "long long"}[words.count("long")]
            return self.types["unsigned " + width if unsigned else width]
        return Type("opaque", " ".join(words))

    def named(self, name):
        """The type that a test names, for an array."""
        if type(name) is not str:
            raise Misuse("a type is named by a text")
        found = self.type(TOKEN.findall(name))
        if found.kind not in ("integer", "float", "pointer"):
            raise Misuse("no array of %s" % name)
        return found


def matching(tokens, opening):
    depth = 0
    for place in range(opening, len(tokens)):
        if tokens[place] in "([{":
            depth += 1
        elif tokens[place] in ")]}":
            depth -= 1
            if depth == 0:
                return place
    raise Misuse("a bracket that is not closed")


def split(tokens):
    """At commas outside brackets."""
    parts, depth = [[]], 0
    for token in tokens:
        depth += token in ("(", "[", "{")
        depth -= token in (")", "]", "}")
        if token == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def statements(tokens):
    """At semicolons outside brackets, and after the body of a function."""
    current, depth = [], 0
    for token in tokens:
        if token == ";" and depth == 0:
            if current:
                yield current
            current = []
            continue
        current.append(token)
        depth += token in ("(", "[", "{")
        depth -= token in (")", "]", "}")
        if token == "}" and depth == 0 and ")" in current[:current.index("{")]:
            # The body does not matter: its prototype is before it.
            yield current[:current.index("{")]
            current = []
    if current:
        yield current
