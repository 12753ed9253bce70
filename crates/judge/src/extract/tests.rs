use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(answer: &str, expected: &str) {
    let once = extract_code(answer, Language::Python);
    assert_eq!(once, expected);
    assert_eq!(extract_code(&once, Language::Python), once, "not idempotent");
}

const F: &str = "def f(x):\n    return x\n";
const G: &str = "def g(x):\n    return 2 * x\n";

#[test]
fn code_stays_as_it_is() {
    check(F, F);
    check("    def method(self):\n        return 1\n", "    def method(self):\n        return 1\n");
    let documented = "def f(x):\n    \"\"\"Use it so:\n\n```python\nf(1)\n```\n\"\"\"\n    return x\n";
    check(documented, documented);
    check("", "");
    check("def broken(:\n", "def broken(:\n");
}

#[test]
fn fenced_blocks() {
    check(&format!("```python\n{F}```"), F);
    check(&format!("Sure, here you are:\n\n```py\n{F}```\nIt returns x."), F);
    check(&format!("~~~\n{F}~~~\n"), F);
    check(&format!("````\n{F}````\n"), F);
    check(&format!("Here:\r\n```python\r\n{F}```\r\n"), F);
    check(&format!("```python\n{F}"), F);
    check(&format!("~~~python\n{F}"), F);
}

#[test]
fn of_several_blocks_the_right_ones() {
    check(&format!("```sh\npip install something-with-a-very-long-name-indeed\n```\n```python\n{F}```\n"), F);
    check(&format!("```python\n{F}```\nand\n```python\n{G}```\n"), &format!("{F}{G}"));
    check(
        &format!(
            "```python\n{F}```\nUse it:\n```python\nprint(f(1), f(2), f(3), f(4), f(5), f(6))\nprint(f(7))\n```\n```python\n{G}```\n"
        ),
        &format!("{F}{G}"),
    );
    // Two versions of one function are alternatives.
    let longer = "def f(x):\n    y = x\n    return y\n";
    check(&format!("```python\n{F}```\nBetter:\n```python\n{longer}```\n"), longer);
    // A block that does not parse loses even if it is longer.
    check(&format!("```python\ndef f(x:\n    return x and much more text\n```\n```python\n{F}```\n"), F);
}

#[test]
fn prose_without_fences() {
    check(&format!("Here is the function you asked for:\n\n{F}"), F);
    check(&format!("{F}\nThis function returns its argument, unchanged.\n"), &format!("{F}\n"));
    check("I'm sorry, I can't help with that.", "I'm sorry, I can't help with that.");
}

#[test]
fn broken_code_is_not_taken_for_the_prose_after_its_imports() {
    let broken = "import sqlite3\n\ndef f(x):\n    return g(x\n";
    check(broken, broken);
    check(&format!("import os\n\n{F}\ndef g(x):\n    return g(x\n"), &format!("import os\n\n{F}\n"));
    check("import os\n\nThis brings the module in.\n", "import os\n\n");
    check("import os\n\n# What it does\n\nIt brings the module in.\n", "import os\n\n# What it does\n\n");
    let c = "#include <stdio.h>\n\nint f(int x)\n{\n    return (x;\n}\n";
    assert_eq!(extract_code(c, Language::C), c);
}

#[test]
fn other_languages() {
    let c = "int f(int x)\n{\n    return x;\n}\n";
    assert_eq!(extract_code(&format!("Here:\n```c\n{c}```\n"), Language::C), c);
    assert_eq!(extract_code(&format!("The function:\n\n{c}"), Language::C), c);
    assert_eq!(extract_code(&format!("```python\n{F}```\n```c\n{c}```\n"), Language::C), c);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_survived_and_twice_is_once(text in any::<String>(), c in any::<bool>()) {
        let language = if c { Language::C } else { Language::Python };
        let once = extract_code(&text, language);
        prop_assert_eq!(extract_code(&once, language), once);
    }

    #[test]
    fn any_mixture_is_survived_and_twice_is_once(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("```python\n"), Just("```\n"), Just("~~~\n"), Just("````\n"), Just(F), Just(G), Just("\n"),
                Just("Some words.\n"), Just("import os\n"), Just("x = 1\n"), Just("\"\"\"\n"), Just("é```\n"),
            ],
            0..10,
        )
    ) {
        let text: String = parts.concat();
        let once = extract_code(&text, Language::Python);
        prop_assert_eq!(extract_code(&once, Language::Python), once);
    }
}
