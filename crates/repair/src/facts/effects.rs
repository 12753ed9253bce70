//! What calls do, in words.

use vul2safe_code::Language;

use super::purpose::speakable;
use crate::Draft;

/// What a well-known call does, by the last part of its name.
const EFFECTS: &[(&[&str], &str)] = &[
    (
        &[
            "execute",
            "executemany",
            "executescript",
            "raw",
            "executeQuery",
            "executeUpdate",
            "createQuery",
            "createNativeQuery",
            "Query",
            "QueryRow",
            "QueryContext",
            "Exec",
            "ExecContext",
            "mysqli_query",
            "mysql_query",
            "pg_query",
            "get_results",
            "get_row",
            "get_var",
        ],
        "send a statement to the database",
    ),
    (&["fetchone", "findOne", "fetch_assoc", "mysqli_fetch_assoc", "fetch_row"], "take one row"),
    (&["fetchall", "fetchmany", "fetchAll", "fetch_all"], "take the rows"),
    (&["commit"], "commit"),
    (&["open", "fopen", "OpenFile", "FileInputStream", "FileReader"], "open a file"),
    (
        &[
            "read",
            "readlines",
            "readline",
            "fread",
            "recv",
            "recvfrom",
            "readFile",
            "readFileSync",
            "readLine",
            "ReadFile",
            "ReadAll",
            "readAllBytes",
            "file_get_contents",
            "fgets",
            "stream_get_contents",
        ],
        "read data",
    ),
    (
        &[
            "write",
            "writelines",
            "fwrite",
            "writeFile",
            "writeFileSync",
            "WriteFile",
            "Write",
            "WriteString",
            "file_put_contents",
        ],
        "write data",
    ),
    (
        &[
            "render",
            "render_template",
            "render_to_response",
            "render_to_string",
            "render_template_string",
            "ExecuteTemplate",
        ],
        "render a page",
    ),
    (&["redirect", "HttpResponseRedirect", "sendRedirect", "Redirect", "wp_redirect"], "send the client on"),
    (
        &[
            "system",
            "popen",
            "Popen",
            "check_output",
            "check_call",
            "getoutput",
            "exec_command",
            "run_command",
            "exec",
            "execSync",
            "execFile",
            "spawn",
            "Command",
            "CommandContext",
            "ProcessBuilder",
            "shell_exec",
            "passthru",
            "proc_open",
        ],
        "start a program",
    ),
    (&["urlopen", "urlretrieve", "openConnection", "axios", "curl_exec", "NewRequest"], "fetch an address"),
    (
        &[
            "loads",
            "load",
            "parse",
            "fromstring",
            "safe_load",
            "readValue",
            "Unmarshal",
            "NewDecoder",
            "json_decode",
            "unserialize",
            "readObject",
            "simplexml_load_string",
            "newDocumentBuilder",
        ],
        "parse the data",
    ),
    (
        &["dumps", "dump", "stringify", "Marshal", "json_encode", "serialize", "writeValueAsString"],
        "turn the data into text",
    ),
    (&["join", "implode", "Join"], "put the parts together"),
    (&["memcpy", "memmove", "strcpy", "strncpy", "strlcpy", "memset"], "copy bytes"),
    (
        &["malloc", "calloc", "kmalloc", "kzalloc", "realloc", "xmalloc", "g_malloc", "AcquireMagickMemory"],
        "allocate memory",
    ),
    (&["free", "kfree", "g_free", "RelinquishMagickMemory"], "release memory"),
    (
        &[
            "printf",
            "fprintf",
            "print",
            "snprintf",
            "sprintf",
            "printk",
            "puts",
            "println",
            "Println",
            "Printf",
            "Fprintf",
            "Fprint",
            "error_log",
        ],
        "print a message",
    ),
    (
        &["listdir", "glob", "walk", "scandir", "readdir", "readdirSync", "ReadDir", "listFiles"],
        "list a folder",
    ),
    (&["remove", "unlink", "rmtree", "unlinkSync", "RemoveAll", "rmSync"], "remove files"),
    (&["mutex_lock", "spin_lock", "lock", "pthread_mutex_lock"], "take a lock"),
];

/// What the calls that both sides make do, at most two things.
pub(super) fn effects(draft: &Draft, before: &[String], after: &[String]) -> Vec<&'static str> {
    let mut effects = Vec::new();
    for call in after.iter().filter(|call| before.contains(call)) {
        let last = call.rsplit(['.', '>', ':']).next().unwrap_or(call);
        let effect = EFFECTS.iter().find(|(names, _)| names.contains(&last)).map(|(_, effect)| *effect);
        // Python's `exec` runs a text, and its `open` and `read` are these.
        let is_other = draft.record.language == Language::Python && last == "exec";
        if let Some(effect) = effect.filter(|_| !is_other)
            && !effects.contains(&effect)
            && speakable(draft, effect)
        {
            effects.push(effect);
        }
        if effects.len() == 2 {
            break;
        }
    }
    effects
}
