//! Properties of the codec that the two processes speak, checked by a script on the codec's own source.
//!
//! Needs a `python3` on the path; without one the tests say so and check nothing.

use std::process::Command;

const SOURCE: &str = concat!(
    include_str!("../src/python/boundary.py"),
    "\n\n",
    include_str!("../src/python/codec.py"),
    "\n\n",
    include_str!("../src/python/references.py")
);

/// Runs the codec's source and then `checks`.
fn run(checks: &str) {
    let folder = std::env::temp_dir().join(format!("vul2safe-codec-{}-{}", std::process::id(), checks.len()));
    std::fs::create_dir_all(&folder).expect("a folder for the script");
    let script = folder.join("script.py");
    std::fs::write(&script, format!("{SOURCE}\n\n{COMMON}\n\n{checks}")).expect("the script is written");
    let output = Command::new("python3").arg(&script).output();
    std::fs::remove_dir_all(&folder).expect("the folder is removed");
    let output = match output {
        Ok(output) => output,
        Err(error) => return println!("skipped: no python3: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const COMMON: &str = r#"
import collections, datetime, decimal, fractions, pathlib, random, uuid

Point = collections.namedtuple("Point", "x y")

def value(source, depth=0):
    simple = [
        lambda: None, lambda: source.random() < 0.5, lambda: source.randint(-9, 9), lambda: source.getrandbits(300) - (1 << 299),
        lambda: source.uniform(-1e9, 1e9), lambda: float("inf"), lambda: complex(source.random(), -0.0),
        lambda: "".join(chr(source.choice([65, 0, 0x20AC, 0xD800, 0x1F600])) for _ in range(source.randint(0, 5))),
        lambda: bytes(source.getrandbits(8) for _ in range(source.randint(0, 5))), lambda: range(1, 9, 2),
        lambda: slice(1, None), lambda: ..., lambda: decimal.Decimal("1.50"), lambda: fractions.Fraction(1, 3),
        lambda: datetime.datetime(2020, 1, 2, 3, 4, 5, 6, datetime.timezone.utc), lambda: datetime.date(2020, 1, 2),
        lambda: datetime.timedelta(1, 2, 3), lambda: uuid.UUID(int=7), lambda: pathlib.Path("/a/b"),
        lambda: int, lambda: ValueError,
    ]
    if depth > 3 or source.random() < 0.4:
        return source.choice(simple)()
    items = [value(source, depth + 1) for _ in range(source.randint(0, 4))]
    keys = [source.choice(["a", 1, (1, 2), None, b"x", 1.5]) for _ in items]
    return source.choice([
        lambda: items, lambda: tuple(items), lambda: dict(zip(keys, items)), lambda: set(keys), lambda: frozenset(keys),
        lambda: bytearray(b"abc"), lambda: collections.deque(items), lambda: collections.OrderedDict(zip(keys, items)),
        lambda: collections.Counter("abca"), lambda: Point(items, 2),
    ])()

def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other) and not (isinstance(one, tuple) and isinstance(other, tuple) and hasattr(other, "_fields")):
        return False
    if isinstance(one, (list, tuple, collections.deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(map(repr, one)) == list(map(repr, other)) and all(map(same, one.values(), other.values()))
    return one == other

def frame(end, *values):
    table = []
    encoder = Encoder(end, table)
    for each in values:
        encoder.encode(each, 0)
    return encoder.joined(), table

def read(end, payload):
    decoder = Decoder(end, payload, 0, [])
    found = decoder.decode(0)
    decoder.finished()
    return found
"#;

#[test]
fn plain_values_come_back_as_they_were() {
    run(r#"
for seed in range(3000):
    source = random.Random(seed)
    for trusting in (False, True):
        end = End(0, trusting)
        sent = value(source)
        payload, _ = frame(End(0, not trusting), sent)
        back = read(end, payload)
        assert same(sent, back), (seed, sent, back)

# Circles and shared containers.
one = [1]
one.append(one)
back = read(End(0, False), frame(End(0, True), one)[0])
assert back[0] == 1 and back[1] is back
shared = [2]
back = read(End(0, False), frame(End(0, True), [shared, shared])[0])
assert back[0] is back[1]

# Subclasses arrive as their base types, by the base's own methods.
class Number(int):
    def __eq__(self, other): return True
    def __int__(self): return self
    def __add__(self, other): return self
    __hash__ = int.__hash__
class Text(str):
    def __str__(self): return self
    def encode(self, *arguments): return b"no"
class Items(list):
    def __iter__(self): return iter([9])
    def __len__(self): return 99
class Map(dict):
    def items(self): return [(1, 9)]
for sent, wanted in ((Number(5), 5), (Text("a"), "a"), (Items([1, 2]), [1, 2]), (Map({1: 2}), {1: 2})):
    back = read(End(0, False), frame(End(0, True), sent)[0])
    assert type(back) is type(wanted) and back == wanted, (sent, back)
"#);
}

#[test]
fn any_frame_is_read_or_refused() {
    run(r#"
import time
started = time.monotonic()
refused = 0
for seed in range(30000):
    source = random.Random(seed)
    if seed % 3 == 0:
        payload = bytes(source.getrandbits(8) for _ in range(source.randint(0, 40)))
    else:
        values = [value(source), ValueError("x", 1), len, Point(1, 2)]
        payload = bytearray(frame(End(0, True), source.choice(values))[0])
        for _ in range(source.randint(1, 4)):
            place = source.randrange(len(payload)) if payload else 0
            action = source.random()
            if action < 0.6 and payload:
                payload[place] = source.getrandbits(8)
            elif action < 0.8:
                del payload[place:place + source.randint(1, 5)]
            else:
                payload[place:place] = bytes(payload[:source.randint(0, 8)])
        payload = bytes(payload)
    end = End(0, False)
    try:
        back = read(end, payload)
    except UNREADABLE:
        refused += 1
    if source.random() < 0.3:
        try:
            decoder = Decoder(end, payload, 0, [])
            error = decoder.exception()
            assert isinstance(error, BaseException) and not isinstance(error, (Interruption, Broken))
        except UNREADABLE:
            refused += 1
assert 3000 < refused < 39000, refused

# Claims of size cost nothing before the bytes are there.
for payload in (b"l\xff\xff\xff\xff", b"s\x7f\xff\xff\xff", b"t\x00\x10\x00\x00" * 200, b"l\x00\x00\x00\x01" * 100000 + b"N",
                b"d\x00\x00\x00\x01" + b"m\x00\x00\x00\x00" * 2, b"e\x00\x00\x00\x01m\x00\x00\x00\x00", b"P\x00\x00\x00\x07" * 2,
                b"v\x00\x00\x00\x02os\x00\x00\x00\x06systemt\x00\x00\x00\x00", b"K\x00\x00\x00\x02os\x00\x00\x00\x06system",
                b"M\x00\x00\x00\x02os", b"m\x00\x00\x00\x09"):
    try:
        read(End(0, False), payload)
        raise SystemExit("read: %r" % payload[:40])
    except UNREADABLE:
        pass
"#);
}

#[test]
fn what_is_too_large_or_too_deep_is_not_sent_as_a_copy() {
    run(r#"
for sent in ("x" * (11 << 20), [b"x" * (1 << 20)] * 11, list(range(3_000_000))):
    try:
        frame(End(0, True), sent)
        raise SystemExit("sent")
    except TooLarge:
        pass
deep = []
for _ in range(5000):
    deep = [deep]
back = read(End(0, False), frame(End(0, True), deep)[0])
depth = 0
while type(back) is list:
    back, depth = back[0], depth + 1
assert depth == DEPTH and issubclass(type(back), StandIn), (depth, back)
"#);
}
