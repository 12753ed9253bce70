"""Objects that cross by reference: what a stand-in asks for, and what an owner grants."""


def answered(value, class_, what):
    """A stand-in's answer to T must be of the exact type: a subclass could lie about itself."""
    if type(value) is not class_:
        raise TypeError("%s of the answer's object is no %s" % (what, class_.__name__))
    return value


def make_class(end, module, name, mask):
    """The class of the stand-ins for one class of the other side. It has the special methods that class has."""
    trusting = end.trusting

    def ask(number):
        def method(self, *values):
            return end.request(SPECIAL, self, number, values)
        return method

    def call(self, *values, **named):
        end.called = True
        return end.request(CALL, self, values, named, end.ambient())

    def get(self, attribute):
        if not trusting and attribute[:2] == "__" and attribute not in DESCRIPTIONS:
            raise AttributeError(attribute)
        return end.request(GET, self, attribute)

    def put(self, attribute, value):
        end.request(SET, self, attribute, value)

    def delete(self, attribute):
        end.request(DELETE, self, attribute)

    def directory(self):
        names = end.request(DIRECTORY, self)
        return [attribute for attribute in names if type(attribute) is str] if type(names) is list else []

    def text(special):
        number = NUMBER_OF[special]
        def method(self, *values):
            return answered(end.request(SPECIAL, self, number, values), str, special)
        return method

    def identity_hash(self):
        return hash((StandIn, number_of(self)))

    def has(special):
        return mask >> NUMBER_OF[special] & 1

    def equal(self, other):
        if self is other:
            return True
        if not trusting and not issubclass(type(other), StandIn):
            # The answer wrote this class: its word that it equals 4 is worth nothing.
            return False
        if not has("__eq__"):
            return NotImplemented
        result = end.request(SPECIAL, self, NUMBER_OF["__eq__"], (other,))
        return result if trusting or result is NotImplemented else answered(result, bool, "__eq__")

    def ordered(special):
        number = NUMBER_OF[special]
        def method(self, other):
            if not issubclass(type(other), StandIn):
                return NotImplemented
            result = end.request(SPECIAL, self, number, (other,))
            return result if result is NotImplemented else answered(result, bool, special)
        return method

    def contains(self, wanted):
        # Looking is done here: an object that is asked whether it holds something would know what to say.
        for count, item in enumerate(self):
            if item is wanted or item == wanted:
                return True
            if count > 1_000_000:
                raise OverflowError("more than a million items")
        return False

    def exact(special, class_):
        number = NUMBER_OF[special]
        def method(self, *values):
            return answered(end.request(SPECIAL, self, number, values), class_, special)
        return method

    def instance(self, value):
        if not trusting and not issubclass(type(value), (StandIn, BaseException)):
            return False
        return answered(end.request(INSTANCE, value, self), bool, "isinstance")

    namespace = {special: ask(number) for number, special in enumerate(SPECIALS) if mask >> number & 1}
    namespace.update({
        "__slots__": (), "__module__": module, "__qualname__": name, "__getattr__": get, "__setattr__": put,
        "__delattr__": delete, "__dir__": directory, "__eq__": equal, "__hash__": identity_hash,
        "__instancecheck__": instance,
    })
    for special in ("__str__", "__repr__", "__format__"):
        namespace[special] = text(special)
    if has("__call__"):
        namespace["__call__"] = call
    if trusting:
        if has("__hash__"):
            namespace["__hash__"] = ask(NUMBER_OF["__hash__"])
        # `isinstance` asks for this where the type itself does not answer.
        namespace["__class__"] = property(lambda self: end.known_class(module, name) or type(self))
    else:
        for special in ("__lt__", "__le__", "__gt__", "__ge__"):
            if has(special):
                namespace[special] = ordered(special)
        if has("__contains__") or has("__iter__"):
            namespace["__contains__"] = contains
        for special, class_ in (("__len__", int), ("__bool__", bool), ("__int__", int), ("__float__", float),
                                ("__index__", int), ("__complex__", complex), ("__bytes__", bytes),
                                ("__length_hint__", int)):
            if has(special):
                namespace[special] = exact(special, class_)
        if has("__fspath__"):
            namespace["__fspath__"] = exact("__fspath__", str)
    return type(name.split(".")[-1].replace("\0", "") or "Object", (StandIn,), namespace)


class Owner:
    """Grants or refuses what the other side asks of this side's objects."""

    def __init__(self, end):
        self.end = end
        end.operations = {
            GET: self.get, SET: self.set, DELETE: self.delete, CALL: self.call, SPECIAL: self.special,
            INSTANCE: self.instance, DIRECTORY: self.directory,
        }

    def mine(self, target):
        """Only what was handed out by reference can be asked: no class, no text and no number that came as a value."""
        number = self.end.numbers.get(id(target))
        if number is None or self.end.exported.get(number) is not target:
            raise TypeError("no object of this side")
        return target

    def check(self, target, name, what):
        if type(name) is not str:
            raise TypeError("a name is a text")
        if name in REFUSED_NAMES:
            raise UNSUPPORTED("%s: not across processes" % name)
        if self.end.trusting:
            return
        if name[:1] == "_" and not (what == "get" and name in ("__name__", "__qualname__", "__doc__", "__module__")):
            raise AttributeError(name)
        if name.startswith(HIDDEN) and isinstance(target, FUNCTIONS):
            raise AttributeError(name)
        if isinstance(target, FUNCTIONS) and name not in GENERATORS and name[:1] != "_":
            raise AttributeError(name)
        if what != "get" and isinstance(target, (type, types.ModuleType) + FUNCTIONS):
            raise AttributeError(name)

    def get(self, target, name):
        self.check(self.mine(target), name, "get")
        return getattr(target, name)

    def set(self, target, name, value):
        self.check(self.mine(target), name, "set")
        setattr(target, name, value)

    def delete(self, target, name):
        self.check(self.mine(target), name, "delete")
        delattr(target, name)

    def call(self, target, values, named, ambient):
        self.mine(target)
        if type(values) is not tuple or type(named) is not dict:
            raise TypeError("no call")
        return target(*values, **named)

    def special(self, target, number, values):
        self.mine(target)
        if type(number) is not int or not 0 <= number < len(SPECIALS) or type(values) is not tuple:
            raise TypeError("no such method")
        return getattr(type(target), SPECIALS[number])(target, *values)

    def instance(self, value, class_):
        return isinstance(value, self.mine(class_))

    def directory(self, target):
        self.mine(target)
        return [name for name in dir(target) if self.end.trusting or name[:1] != "_"]


UNSUPPORTED = type("UnsupportedOperation", (OSError, ValueError), {"__module__": "io"})


class Surroundings:
    """In A: takes over what the tester's program shares with the code it calls without passing it."""

    def __init__(self):
        self.change_folder, self.set_umask, self.environment = os.chdir, os.umask, os.environ

    def enter(self, ambient):
        if "folder" in ambient:
            self.change_folder(ambient["folder"])
        if "umask" in ambient:
            self.set_umask(ambient["umask"])
        if "environment" in ambient:
            wanted, present = ambient["environment"], dict(self.environment)
            for name in present:
                if name not in wanted:
                    del self.environment[name]
            for name, value in wanted.items():
                if present.get(name) != value:
                    self.environment[name] = value
        for function, arguments in ambient.get("random", ()):
            getattr(imported("random"), function)(*arguments)


def read_all(descriptor, read=os.read):
    parts = []
    while True:
        part = read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)
