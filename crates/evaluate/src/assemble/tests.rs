use proptest::prelude::*;

use super::*;

fn item(prompt: &str, head: usize, entry_point: Option<&str>) -> Item {
    let stop = ["\ndef", "\nclass", "\nprint"].map(str::to_owned).to_vec();
    let form =
        Form::Completion(Completion { prompt: prompt.to_owned(), head, stop, ..Completion::default() });
    Item { form, entry_point: entry_point.map(str::to_owned), ..Item::new("t", "g", Language::Python) }
}

/// A prompt with context as HumanEval has it.
const PROMPT: &str = "import math\n\n\ndef area(radius):\n    \"\"\" The area of a circle.\n    \"\"\"\n";

fn area() -> Item {
    item(PROMPT, PROMPT.find("def").expect("there"), Some("area"))
}

fn check(answer: &str, expected: &str) {
    let assembled = assemble(&area(), answer);
    assert_eq!(assembled.program, expected, "{answer:?}");
    assert!(clean(&assembled.program, Language::Python).is_some(), "{answer:?}");
}

#[test]
fn a_continuation_goes_behind_the_prompt() {
    check("    return math.pi * radius ** 2\n", &format!("{PROMPT}    return math.pi * radius ** 2\n"));
    check("\treturn math.pi * radius ** 2", &format!("{PROMPT}\treturn math.pi * radius ** 2"));
}

#[test]
fn a_body_at_the_margin_is_indented() {
    let expected = format!("{PROMPT}    square = radius ** 2\n    return math.pi * square\n");
    check("square = radius ** 2\nreturn math.pi * square\n", &expected);
    check("Here you are:\n```python\nsquare = radius ** 2\nreturn math.pi * square\n```\nDone.", &expected);
}

#[test]
fn a_definition_that_is_repeated_keeps_the_context() {
    let code = "def area(radius):\n    return math.pi * radius ** 2\n";
    let expected = format!("import math\n\n\n{code}");
    check(code, &expected);
    check(&format!("Sure!\n\n```python\n{code}```\n"), &expected);
    check(&format!("import math\n\n\n{code}"), &expected);
    // Helpers beside it stay, before and behind.
    let helped =
        "def square(x):\n    return x * x\n\n\ndef area(radius):\n    return math.pi * square(radius)\n";
    check(helped, &format!("import math\n\n\n{helped}"));
}

#[test]
fn what_runs_on_is_cut_only_where_it_does_not_parse() {
    let body = "    return math.pi * radius ** 2\n";
    let helper = format!("{body}\ndef other():\n    return 1\n");
    check(&helper, &format!("{PROMPT}{helper}"));
    let torn = format!("{body}\ndef other(:\n    ret");
    check(&torn, &format!("{PROMPT}{body}"));
}

#[test]
fn a_prompt_without_a_line_end_gets_one() {
    let prompt = "def area(radius):\n    '''\n    The area.\n    '''";
    let item = item(prompt, 0, None);
    for answer in ["\n    return 3 * radius", "    return 3 * radius", "return 3 * radius"] {
        let program = assemble(&item, answer).program;
        assert_eq!(program.trim_end(), format!("{prompt}\n    return 3 * radius"), "{answer:?}");
    }
    let comment = "def area(radius):\n    # three times";
    let item = self::item(comment, 0, None);
    let program = assemble(&item, "return 3 * radius").program;
    assert_eq!(program, format!("{comment}\n    return 3 * radius"));
}

#[test]
fn a_line_is_gone_on_with_in_its_middle() {
    let prompt = "#include <string.h>\n\nvoid copy(char *to, const char *from) {\n    memcpy";
    let completion = Completion { prompt: prompt.to_owned(), head: 21, ..Completion::default() };
    let item = Item { form: Form::Completion(completion), ..Item::new("c", "g", Language::C) };
    let assembled = assemble(&item, "(to, from, 16);\n}\n");
    assert_eq!(assembled.program, format!("{prompt}(to, from, 16);\n}}\n"));
    assert_eq!(assembled.answer.text(&assembled.program), Some("(to, from, 16);\n}\n"));
    let whole = "```c\nvoid copy(char *to, const char *from) {\n    strcpy(to, from);\n}\n```";
    let assembled = assemble(&item, whole);
    assert_eq!(
        assembled.program,
        "#include <string.h>\n\nvoid copy(char *to, const char *from) {\n    strcpy(to, from);\n}\n"
    );
}

#[test]
fn a_fragment_is_closed_and_put_into_a_function() {
    let fragment = |language, prompt: &str| {
        let completion = Completion { prompt: prompt.to_owned(), fragment: true, ..Completion::default() };
        Item { form: Form::Completion(completion), ..Item::new("f", "g", language) }
    };
    let c = fragment(Language::C, "    if (count > 0) {\n        buffer = malloc(count * 4);\n");
    let program = assemble(&c, "        if (buffer == NULL) return 1;\n").program;
    assert!(clean(&program, Language::C).is_some(), "{program}");
    let python = fragment(Language::Python, "        name = request.args['name']\n");
    let program = assemble(&python, "        return db.execute(name)\n").program;
    assert!(clean(&program, Language::Python).is_some(), "{program}");
}

#[test]
fn text_behind_the_answer_stays_behind_it() {
    let completion = Completion {
        before: "#include <stdio.h>\n".to_owned(),
        prompt: "int one(void) {\n".to_owned(),
        after: "int main(void) { return one(); }\n".to_owned(),
        ..Completion::default()
    };
    let item = Item { form: Form::Completion(completion), ..Item::new("c", "g", Language::C) };
    let expected =
        "#include <stdio.h>\nint one(void) {\n    return 1;\n}\nint main(void) { return one(); }\n";
    assert_eq!(assemble(&item, "    return 1;\n}").program, expected);
    assert_eq!(assemble(&item, "int one(void) {\n    return 1;\n}").program, expected);
}

proptest! {
    #[test]
    fn every_answer_becomes_a_program_with_its_part_marked(answer in "(```|python|def area\\(r\\):|    |return 1|\\n|é|\u{0}|[a-z(){}:#'\"])*") {
        for item in [area(), item("x = (", 0, None), Item::new("p", "g", Language::Python)] {
            let assembled = assemble(&item, &answer);
            prop_assert!(assembled.answer.text(&assembled.program).is_some());
        }
    }

    #[test]
    fn a_cut_is_a_beginning(answer in "(\\ndef|a|\\n|é)*", stop in "(\\ndef|é|a)?") {
        prop_assert!(answer.starts_with(cut_at_stop(&answer, &[stop])));
    }
}
