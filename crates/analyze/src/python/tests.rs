//! Snippets by rule: what must be found, and what must not.

use proptest::prelude::*;
use vul2safe_code::{Language, Severity, parse};

use crate::{Finding, analyze};

fn findings(text: &str) -> Vec<Finding> {
    let parsed = parse(Language::Python, text).unwrap();
    assert!(parsed.is_clean(), "test snippet does not parse: {text}");
    analyze(&parsed)
}

/// Every snippet is the body of `def f(PARAMETERS):` or, if it has several lines, a whole text.
fn check(rule: &str, parameters: &str, vulnerable: &[&str], secure: &[&str]) {
    for (expected, snippets) in [(true, vulnerable), (false, secure)] {
        for snippet in snippets {
            let text = if snippet.contains("def ") {
                (*snippet).to_string()
            } else {
                let lines: Vec<String> = snippet.lines().map(|line| format!("    {line}\n")).collect();
                format!("def f({parameters}):\n{}", lines.concat())
            };
            let found = findings(&text);
            let has = found.iter().any(|finding| finding.rule == rule);
            assert_eq!(has, expected, "{rule} in\n{text}\n{found:#?}");
        }
    }
}

#[test]
fn regex_backtracking() {
    let long =
        |pattern: &str| format!("import re\ndef f(text):\n    return re.fullmatch(r\"{pattern}\", text)\n");
    let slow = [
        r"(\w+,?)+",
        r"(\w+)*",
        r"^([a-z]+)+$",
        r"(\w*,?\w+)+",
        r"(\w+|\w+,)+",
        r"(?:\d+\.?){2,}",
        r"x(a+)+y",
        r"((a+)b?)*",
        r"(?P<n>[^)]+)*",
    ];
    let quick = [
        r"\w+(,\w+)*",
        r"(\w+,)+",
        r"[a-z]+",
        r"(a+b+)+",
        r"(\w+\s)*",
        r"(\w)+",
        r"(?=(a+)+)",
        r"[(\w+)*]+",
        r"\(\w+\)*",
        r"(a++)+",
        r"(",
        r"a**",
        r"[",
    ];
    let (slow, quick) = (slow.map(long), quick.map(long));
    check(
        "regex-backtracking",
        "text",
        &slow.each_ref().map(String::as_str),
        &quick.each_ref().map(String::as_str),
    );
}

#[test]
fn reflection() {
    check(
        "reflection",
        "device, name",
        &[
            "return getattr(device, name)()",
            "method = getattr(device, name)\nreturn method(1)",
            "import operator\nreturn operator.methodcaller(name)(device)",
        ],
        &[
            "return getattr(device, 'start')()",
            "return getattr(device, name)",
            "if name not in ('start', 'stop'):\n    raise ValueError(name)\nreturn getattr(device, name)()",
            "method = getattr(device, name) if name in ('start', 'stop') else None\nreturn method()",
            "return getattr(device, 'do_' + name)()",
            "actions = {'start': device.start}\nreturn actions[name]()",
        ],
    );
}

#[test]
fn template_format() {
    check(
        "template-format",
        "template, user",
        &["return template.format(user=user)", "values = {'user': user}\nreturn template.format_map(values)"],
        &[
            "return template.replace('{user.name}', user.name)",
            "return 'Dear {user.name}'.format(user=user)",
            "return template.format(count=1)",
        ],
    );
}

#[test]
fn header_injection() {
    check(
        "header-injection",
        "headers, name",
        &[
            r#"headers.append(f"X-Name: {name}\r\n")"#,
            r#"headers.append("X-Name: " + name + "\r\n")"#,
            "line = name.strip()\nheaders.append(\"X-Name: %s\\r\\n\" % line)",
        ],
        &[
            r#"headers.append("X-Name: red\r\n")"#,
            "if \"\\r\" in name or \"\\n\" in name:\n    raise ValueError(name)\nheaders.append(f\"X-Name: {name}\\r\\n\")",
            "name = name.replace(\"\\r\", \"\").replace(\"\\n\", \"\")\nheaders.append(\"X-Name: \" + name + \"\\r\\n\")",
            "headers.append(name)",
        ],
    );
}

#[test]
fn partial_signature() {
    let text = |check: &str| {
        format!(
            "import hmac\ndef f(key, text, mark):\n    right = hmac.new(key, text, 'sha256').hexdigest()\n    return {check}\n"
        )
    };
    let flawed = [
        "right.startswith(mark)",
        "mark in right",
        "mark not in right",
        "all(a == b for a, b in zip(mark, right))",
    ];
    let right = ["hmac.compare_digest(mark, right)", "text.startswith(mark)", "mark in text"];
    let (flawed, right) = (flawed.map(text), right.map(text));
    check(
        "partial-signature",
        "",
        &flawed.each_ref().map(String::as_str),
        &right.each_ref().map(String::as_str),
    );
}

#[test]
fn sql_injection() {
    check(
        "sql-injection",
        "db, name, columns",
        &[
            "db.execute(f\"SELECT * FROM t WHERE n = '{name}'\")",
            "db.execute(\"SELECT * FROM t WHERE n = '%s'\" % name)",
            "db.execute(\"SELECT * FROM t WHERE n = '%s' AND m = %s\" % (name, 1))",
            "db.execute(\"SELECT * FROM t WHERE n = '%(n)s'\" % {'n': name})",
            "db.execute(\"SELECT * FROM t WHERE n = '\" + name + \"'\")",
            "db.execute(\"SELECT * FROM t WHERE n = '{}'\".format(name))",
            "db.execute(\"SELECT * FROM t WHERE n = '{n}'\".format(n=name))",
            "db.execute(''.join(['SELECT * FROM t WHERE n = ', name]))",
            "q = \"SELECT * FROM t WHERE n = '%s'\" % name\ndb.execute(q)",
            "q = 'SELECT * FROM t'\nq += \" WHERE n = '\" + name + \"'\"\nreturn db.execute(q).fetchall()",
            "q = 'SELECT * FROM t'\nif name:\n    q = q + ' WHERE n = ' + name\ndb.execute(q)",
            "parts = ['SELECT * FROM t WHERE 1']\nfor c in columns:\n    parts.append('AND ' + c)\ndb.execute(' '.join(parts))",
            "db.execute(f'SELECT * FROM t ORDER BY {name}')  # nosec",
            "if name not in ('a', 'b'):\n    print('odd')\ndb.execute(f'SELECT * FROM t ORDER BY {name}')",
            "if False:\n    name = int(name)\ndb.execute(f'SELECT * FROM t ORDER BY {name}')",
            "note = 'if name not in (1, 2): raise ValueError'\ndb.execute(f'SELECT * FROM t ORDER BY {name}')",
            "name = name.strip().lower()\ndb.execute('DELETE FROM t WHERE n = \"%s\"' % name)",
            "db.executescript('UPDATE t SET n = ' + repr(name))",
            "with db as c:\n    c.execute('INSERT INTO t VALUES (' + name + ')')",
            "try:\n    db.execute('SELECT * FROM t WHERE n = ' + name)\nexcept Exception:\n    return None",
            "self.db.run_it(\"SELECT * FROM t WHERE n = '%s'\" % name)",
            "def _check(n):\n    return True\ndef g(db, n):\n    if not _check(n):\n        raise ValueError\n    db.execute('SELECT * FROM ' + n)\n",
            "    def find(self, name):\n        self.cursor.execute(\"SELECT * FROM t WHERE n = '%s'\" % self.name)\n",
        ],
        &[
            "db.execute('SELECT * FROM t WHERE n = ?', (name,))",
            "db.execute('SELECT * FROM t WHERE n = %s', (name,))",
            "q = 'SELECT * FROM t WHERE n = ?'\nreturn db.execute(q, [name]).fetchall()",
            "db.execute('SELECT * FROM t WHERE n IN (%s)' % ','.join('?' * len(columns)), columns)",
            "db.execute(f\"SELECT * FROM t WHERE n IN ({','.join('?' for _ in columns)})\", columns)",
            "db.execute(f'SELECT * FROM t LIMIT {int(name)}')",
            "db.execute(f'SELECT * FROM {TABLE} WHERE n = ?', (name,))",
            "if name not in ('a', 'b'):\n    raise ValueError(name)\ndb.execute(f'SELECT * FROM t ORDER BY {name}')",
            "if name in ALLOWED:\n    db.execute(f'SELECT * FROM t ORDER BY {name}')",
            "column = {'a': 'x', 'b': 'y'}[name]\ndb.execute('SELECT * FROM t ORDER BY ' + column)",
            "column = COLUMNS.get(name, 'id')\ndb.execute('SELECT * FROM t ORDER BY ' + column)",
            "order = 'DESC' if name else 'ASC'\ndb.execute('SELECT * FROM t ORDER BY n ' + order)",
            "if not name.isidentifier():\n    return []\ndb.execute(f'SELECT * FROM {name}')",
            "if not re.fullmatch(r'[a-z_]+', name):\n    raise ValueError\ndb.execute(f'SELECT * FROM {name}')",
            "try:\n    name = int(name)\nexcept ValueError:\n    return None\ndb.execute(f'SELECT * FROM t WHERE i = {name}')",
            "if not all(c in ALLOWED for c in columns):\n    raise ValueError\ndb.execute('SELECT ' + ', '.join(columns) + ' FROM t')",
            "for c in columns:\n    if c not in ALLOWED:\n        raise ValueError(c)\ndb.execute('SELECT ' + ', '.join(columns) + ' FROM t')",
            "q = 'SELECT * FROM t'\nargs = []\nif name:\n    q += ' WHERE n = ?'\n    args.append(name)\ndb.execute(q, args)",
            "return db.execute('SELECT 1')\ndb.execute('SELECT ' + name)",
            "executor.execute(f'{name}-job')",
            "logger.debug('SELECT * FROM t WHERE n = %s' % name)",
            "print('Select one from ' + name)",
            "    def find(self, name):\n        self.db.execute('SELECT * FROM %s WHERE n = ?' % self.table, (name,))\n",
            "def _check(n):\n    if n not in ALLOWED:\n        raise ValueError(n)\ndef g(db, n):\n    _check(n)\n    db.execute('SELECT * FROM ' + n)\n",
        ],
    );
}

#[test]
fn the_span_is_the_expression_that_builds() {
    let text = "def f(db, n):\n    q = 'SELECT * FROM t WHERE n = ' + n\n    return db.execute(q)\n";
    let found = findings(text);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].span.text(text), Some("'SELECT * FROM t WHERE n = ' + n"));
    let found = findings("def f(db, n):\n    db.execute('SELECT * FROM t WHERE n = %d' % n)\n");
    assert_eq!(found[0].severity, Severity::Low, "a number conversion lets no text through");
}

#[test]
fn os_command() {
    check(
        "os-command",
        "host, user",
        &[
            "os.system('ping -c 1 ' + host)",
            "os.system(f'ping {host}')",
            "os.popen('ping %s' % host).read()",
            "subprocess.run('ping {}'.format(host), shell=True)",
            "cmd = 'ping ' + host\nsubprocess.check_output(cmd, shell=True)",
            "subprocess.Popen(' '.join(['ping', host]), shell=True)",
            "subprocess.run(host, shell=True)",
            "subprocess.run(['sh', '-c', 'ping ' + host])",
            "subprocess.getoutput(f'ping {host}')",
            "command = f\"ping '{host}'\"\nreturn subprocess.call(command, shell=True)",
            "import subprocess as sp\ndef g(host):\n    sp.run(f'ping {host}', shell=True)\n",
            "from os import system\ndef g(host):\n    system('ping ' + host)\n",
            "os.system('ping %s %s' % (shlex.quote(host), user))",
            "if ';' in host:\n    raise ValueError\nos.system('ping ' + host)",
        ],
        &[
            "subprocess.run(['ping', '-c', '1', host])",
            "subprocess.run(['ping', host], shell=False)",
            "os.system('ls')",
            "os.system('ping ' + shlex.quote(host))",
            "os.system(f'ping {shlex.quote(host)}')",
            "safe = shlex.quote(host)\nsubprocess.run('ping ' + safe, shell=True)",
            "if not re.fullmatch(r'[a-z0-9.-]+', host):\n    raise ValueError(host)\nsubprocess.run('ping ' + host, shell=True)",
            "subprocess.run('kill %d' % host, shell=True)",
            "subprocess.run(shlex.split('ping ' + host))",
        ],
    );
}

#[test]
fn path_traversal() {
    check(
        "path-traversal",
        "name",
        &[
            "return open(os.path.join(BASE, name)).read()",
            "return open(BASE + '/' + name).read()",
            "return open(f'{BASE}/{name}').read()",
            "return open('uploads/%s' % name).read()",
            "return (Path(BASE) / name).read_text()",
            "path = Path(BASE).joinpath(name)\nreturn path.read_bytes()",
            "path = os.path.join(BASE, name)\nos.remove(path)",
            "path = os.path.join(BASE, name)\nif not os.path.exists(path):\n    return None\nwith open(path) as f:\n    return f.read()",
            "path = os.path.realpath(os.path.join(BASE, name))\npath.startswith(BASE)\nreturn open(path).read()",
            "path = os.path.join(BASE, name)\nif not path.startswith(BASE):\n    raise ValueError\nreturn open(path).read()",
            "name = name.replace('../', '')\nreturn open(os.path.join(BASE, name)).read()",
            "if '..' in name:\n    raise ValueError\nreturn open(os.path.join(BASE, name)).read()",
            "return open(os.path.abspath(os.path.join(BASE, name))).read()",
            "os.truncate(os.path.join(BASE, name), 0)",
            "os.symlink('target', BASE + '/' + name)",
        ],
        &[
            "return open(name).read()",
            "return open(os.path.join(BASE, 'config.json')).read()",
            "return open(os.path.join(BASE, os.path.basename(name))).read()",
            "os.utime(os.path.join(BASE, os.path.basename(name)))",
            "os.truncate(name, 0)",
            "key = BASE + '/' + name\nreturn key.replace('/', '-')",
            "return open(os.path.join(BASE, secure_filename(name))).read()",
            "return open(os.path.join(BASE, Path(name).name)).read()",
            "path = os.path.realpath(os.path.join(BASE, name))\nif not path.startswith(BASE + os.sep):\n    raise ValueError\nreturn open(path).read()",
            "base = os.path.abspath(BASE)\npath = os.path.abspath(os.path.join(base, name))\nif os.path.commonpath([base, path]) != base:\n    raise ValueError\nreturn open(path).read()",
            "path = (Path(BASE) / name).resolve()\nif not path.is_relative_to(BASE):\n    raise ValueError\nreturn path.read_text()",
            "path = (Path(BASE) / name).resolve()\nif BASE not in path.parents:\n    raise ValueError\nreturn path.read_text()",
            "path = (Path(BASE) / name).resolve()\ntry:\n    path.relative_to(BASE)\nexcept ValueError:\n    return None\nreturn path.read_text()",
            "if name not in os.listdir(BASE):\n    raise ValueError\nreturn open(os.path.join(BASE, name)).read()",
            "if '..' in name or name.startswith('/'):\n    raise ValueError\nreturn open(os.path.join(BASE, name)).read()",
            "if os.path.basename(name) != name:\n    raise ValueError\nreturn open(os.path.join(BASE, name)).read()",
            "for entry in os.listdir(name):\n    print(open(os.path.join(name, entry)).read())",
            "full = os.path.join(BASE, name)\nreal = os.path.realpath(full)\nif not real.startswith(BASE):\n    return None\nreturn open(full).read()",
        ],
    );
}

#[test]
fn deserialisation_and_code() {
    check(
        "deserialisation",
        "data, key, signature",
        &[
            "return pickle.loads(data)",
            "with open(data, 'rb') as f:\n    return pickle.load(f)",
            "from pickle import loads\ndef g(data):\n    return loads(base64.b64decode(data))\n",
            "return yaml.load(data)",
            "return yaml.load(data, Loader=yaml.Loader)",
            "return marshal.loads(data)",
        ],
        &[
            "return json.loads(data)",
            "return yaml.safe_load(data)",
            "return yaml.load(data, Loader=yaml.SafeLoader)",
            "return pickle.loads(pickle.dumps(data))",
            "expected = hmac.new(key, data, 'sha256').digest()\nif not hmac.compare_digest(expected, signature):\n    raise ValueError\nreturn pickle.loads(data)",
        ],
    );
    check(
        "code-injection",
        "text",
        &[
            "return eval(text)",
            "return eval(text, {'__builtins__': {}})",
            "exec('x = ' + text)",
            "return eval(compile(text, 'x', 'eval'))",
        ],
        &[
            "return ast.literal_eval(text)",
            "return eval('1 + 1')",
            "return model.eval(text)",
            "if not re.fullmatch(r'[0-9+* ()-]+', text):\n    raise ValueError\nreturn eval(text)",
        ],
    );
}

#[test]
fn pages_redirects_and_requests() {
    check(
        "xss",
        "name, items",
        &[
            "return f'<p>{name}</p>'",
            "return '<p>' + name + '</p>'",
            "return f'<{items}>{name}</{items}>'",
            "return '<!DOCTYPE html>' + name",
            "return '<IMG src=%s>' % name",
            "return '<p>%s</p>' % name",
            "return '<p>{}</p>'.format(name)",
            "page = '<ul>'\nfor i in items:\n    page += '<li>' + i + '</li>'\nreturn page + '</ul>'",
            "parts = []\nfor i in items:\n    parts.append(f'<li>{i}</li>')\nreturn ''.join(parts)",
            "return '<ul>' + ''.join(f'<li>{i}</li>' for i in items) + '</ul>'",
            "return f'<p>{html.escape(name)}</p><p>{items}</p>'",
            "return HttpResponse('<b>%s</b>' % self.name)",
            "return mark_safe('<b>' + self.name + '</b>')",
            "row = db.execute('SELECT title FROM t WHERE id = ?', (name,)).fetchone()\nreturn '<h1>%s</h1>' % row['title']",
            "cur = db.cursor()\ncur.execute('SELECT title, count(*) FROM t')\nreturn ''.join('<li>' + r[0] for r in cur.fetchall())",
            "out = '<ul>'\nfor (title,) in db.execute('SELECT title FROM t'):\n    out += f'<li>{title}</li>'\nreturn out + '</ul>'",
            "with open(os.path.join(BASE, os.path.basename(name))) as f:\n    return '<pre>' + f.read() + '</pre>'",
            "lines = open(name).readlines()\nreturn '<pre>{}</pre>'.format(lines[0])",
            "return f'<pre>{Path(BASE, name).read_text()}</pre>'",
        ],
        &[
            "return f'<p>{html.escape(name)}</p>'",
            "return '<p>' + escape(name) + '</p>'",
            "name = html.escape(name)\nreturn '<p>%s</p>' % name",
            "return '<ul>' + ''.join(f'<li>{html.escape(i)}</li>' for i in items) + '</ul>'",
            "parts = []\nfor i in items:\n    parts.append('<li>' + html.escape(i) + '</li>')\nreturn ''.join(parts)",
            "return f'<p>{len(items)}</p>'",
            "return f'{name} < {items}'",
            "return '<module {} at {}>'.format(name, items)",
            "return f'<Order {name}>'",
            "return '<?xml version=\"1.0\" encoding=\"%s\"?>' % name",
            "return '<p>fixed</p>'",
            "return render_template('x.html', name=name)",
            "row = db.execute('SELECT title FROM t').fetchone()\nreturn '<h1>%s</h1>' % html.escape(row['title'])",
            "n = db.execute('SELECT count(*) FROM t').fetchone()[0]\nreturn f'<p>{n}</p>'",
            "cur = db.cursor()\ncur.execute('SELECT COUNT(*), SUM(n) FROM t')\nrow = cur.fetchone()\nreturn f'<p>{row[0]}</p>'",
            "row = db.execute('SELECT n FROM t').fetchone()\nreturn f'<p>{int(row[0])}</p>'",
            "row = db.execute('SELECT title FROM t').fetchone()\nreturn row[0]",
            "with open('static/head.txt') as f:\n    return '<head>' + f.read() + '</head>'",
            "with open(os.path.join(BASE, f'{name}.html')) as f:\n    return '<body>' + f.read() + '</body>'",
            "if name not in PAGES:\n    raise ValueError(name)\nreturn '<body>' + open(BASE + name).read() + '</body>'",
            "with open(name) as f:\n    return '<pre>' + html.escape(f.read()) + '</pre>'",
        ],
    );
    check(
        "open-redirect",
        "next_url, host",
        &[
            "return redirect(next_url)",
            "return redirect(request.args.get('next'))",
            "return 302, {'Location': next_url}",
            "if next_url.startswith('/'):\n    return redirect(next_url)\nreturn redirect('/')",
            "return redirect(next_url or '/')",
            "next_url = next_url or '/account/start'\nreturn {'to': next_url}",
            "if next_url is None:\n    next_url = '/'\nreturn 303, next_url",
            "return next_url.strip() if next_url else '/welcome'",
            "if not re.match(r'/.*', next_url):\n    next_url = '/'\nreturn redirect(next_url)",
            "if not re.match(r'/[^ ]*', next_url):\n    next_url = '/'\nreturn next_url",
        ],
        &[
            "return redirect('/home')",
            "if urlparse(next_url).netloc:\n    return redirect('/')\nreturn redirect(next_url)",
            "if not next_url.startswith('/') or next_url.startswith('//'):\n    next_url = '/'\nreturn redirect(next_url)",
            "if next_url not in PAGES:\n    return redirect('/')\nreturn redirect(next_url)",
            "return redirect('/user/' + next_url)",
            "if not next_url or urlparse(next_url).netloc:\n    next_url = '/'\nreturn next_url",
            "if not re.match(r'^/[a-z]', next_url):\n    next_url = '/'\nreturn redirect(next_url)",
            "if not re.match(r'/(?!/)', next_url):\n    next_url = '/'\nreturn next_url",
            "return next_url if next_url in PAGES else '/'",
            "def place(target):\n    return target or '/usr/local'\n",
            "def place(target):\n    if not target:\n        target = '/home/me'\n    return target\n",
            "def split(path):\n    return path or '/'\n",
            "return '/user/' + (next_url or '/')",
            "return next_url",
        ],
    );
    check(
        "server-side-request",
        "url, allowed_hosts",
        &[
            "return requests.get(request.args['url'])",
            "if 'example.com' not in url:\n    raise ValueError\nreturn requests.get(url)",
            "if not url.startswith('https://example.com'):\n    raise ValueError\nreturn requests.get(url)",
            "return any(host in url for host in allowed_hosts)",
        ],
        &[
            "if urlparse(url).hostname not in allowed_hosts:\n    raise ValueError\nreturn requests.get(url)",
            "if not url.startswith('https://example.com/'):\n    raise ValueError\nreturn requests.get(url)",
            "return requests.get('https://example.com/' + url)",
        ],
    );
}

#[test]
fn secrets() {
    check(
        "predictable-random",
        "n",
        &[
            "token = ''.join(random.choice(LETTERS) for _ in range(n))\nreturn token",
            "def make_token(n):\n    return ''.join(random.choices(LETTERS, k=n))\n",
            "password = str(random.randint(0, 9999))",
            "def session_id():\n    return hashlib.sha256(str(random.random()).encode()).hexdigest()\n",
            "from random import choice\ndef new_password(n):\n    out = []\n    for _ in range(n):\n        out.append(choice(LETTERS))\n    return ''.join(out)\n",
            "reset_code = '%06d' % random.randrange(10 ** 6)",
        ],
        &[
            "token = secrets.token_hex(n)",
            "token = ''.join(secrets.choice(LETTERS) for _ in range(n))\nreturn token",
            "token = ''.join(random.SystemRandom().choice(LETTERS) for _ in range(n))",
            "colour = random.choice(COLOURS)\nreturn colour",
            "key = random.choice(KEYS)",
        ],
    );
    check(
        "weak-password-hash",
        "password",
        &[
            "return hashlib.md5(password.encode()).hexdigest()",
            "h = hashlib.sha1()\nh.update(password.encode())\nreturn h.hexdigest()",
            "return hashlib.new('md5', password.encode()).hexdigest()",
            "return hashlib.sha256((salt + password).encode()).hexdigest()",
        ],
        &[
            "return hashlib.pbkdf2_hmac('sha256', password.encode(), salt, 600000)",
            "return hashlib.scrypt(password.encode(), salt=salt, n=2 ** 14, r=8, p=1)",
            "def checksum(data):\n    return hashlib.md5(data).hexdigest()\n",
        ],
    );
    check(
        "weak-hash",
        "data, secret",
        &["return hashlib.md5(secret + data).hexdigest()"],
        &["return hashlib.sha256(data).hexdigest()"],
    );
    check(
        "timing-comparison",
        "signature, expected",
        &[
            "return signature == expected",
            "if hmac.new(K, M, 'sha256').hexdigest() != expected:\n    return False",
        ],
        &[
            "return hmac.compare_digest(signature, expected)",
            "return signature == 'x'",
            "return len(signature) == 64",
            "return a == b",
        ],
    );
}

#[test]
fn files_and_logs() {
    check(
        "temporary-file",
        "name",
        &[
            "p = tempfile.mktemp()",
            "open('/tmp/cache', 'w')",
            "open(f'/tmp/{name}.txt', 'w')",
            "open(os.path.join(tempfile.gettempdir(), 'x'), mode='w')",
        ],
        &[
            "fd, p = tempfile.mkstemp()",
            "open('/tmp/cache')",
            "open('/tmp/cache', 'x')",
            "open('/var/lib/cache', 'w')",
        ],
    );
    check(
        "file-permissions",
        "p",
        &[
            "os.chmod(p, 0o777)",
            "os.chmod(p, 0o666)",
            "mode = 0o777\nos.chmod(p, mode)",
            "os.umask(0)",
            "Path(p).chmod(0o777)",
            "os.chmod(p, stat.S_IRWXU | stat.S_IRWXO)",
            "os.open(p, os.O_CREAT, 0o666)",
            "os.makedirs(p, mode=0o777)",
        ],
        &[
            "os.chmod(p, 0o600)",
            "os.chmod(p, stat.S_IRUSR | stat.S_IWUSR)",
            "os.umask(0o077)",
            "os.open(p, os.O_CREAT, 0o600)",
            "os.makedirs(p)",
        ],
    );
    check(
        "archive-traversal",
        "path, dest",
        &[
            "with tarfile.open(path) as tar:\n    tar.extractall(dest)",
            "t = tarfile.open(path)\nfor m in t.getmembers():\n    t.extract(m, dest)",
        ],
        &[
            "with tarfile.open(path) as tar:\n    tar.extractall(dest, filter='data')",
            "with zipfile.ZipFile(path) as z:\n    z.extractall(dest)",
            "with tarfile.open(path) as tar:\n    for m in tar.getmembers():\n        target = os.path.realpath(os.path.join(dest, m.name))\n        if not target.startswith(dest + os.sep):\n            raise ValueError\n    tar.extractall(dest)",
        ],
    );
    check(
        "log-injection",
        "username",
        &[
            "logger.info('login of ' + username)",
            "logging.warning(f'login of {username}')",
            "logger.info('login of %s', username)",
            "audit_log.append('%s did it' % username)",
            "log.insert(0, 'login ' + username.strip())",
            "def g(journal, place):\n    journal.write('at {}\\n'.format(place))\n",
            "log.write('login ' + '\\n'.join(username.split()))",
            "log.write('login ' + username.split(None, 1)[1])",
            "log.write('login ' + ' '.join(username.split(',')))",
        ],
        &[
            "logger.info('login of %r', 1)",
            "logger.info(f'login of {username!r}')",
            "u = username.replace('\\n', ' ')\nlogger.info('login of ' + u)",
            "logger.info('login of ' + ' '.join(username.split()))",
            "log.write('login ' + username.splitlines()[0] + '\\n')",
            "log.append(f'login {username!r}')",
            "log.append(f'login {len(username)}')",
            "log.append({'event': 'login ', 'who': username})",
            "log.append('started')",
            "parts.append('at ' + username)",
            "log.write('login %s' % username.translate(CONTROL_CHARACTERS))",
            "line = ','.join(username.split('\\n'))\nlog.write(f'login {line}\\n')",
        ],
    );
    check(
        "xml-external-entity",
        "text",
        &[
            "from lxml import etree\ndef g(text):\n    return etree.fromstring(text)\n",
            "p = etree.XMLParser(resolve_entities=True)",
            "p.setFeature(feature_external_ges, True)",
        ],
        &[
            "p = etree.XMLParser(resolve_entities=False)",
            "return ET.fromstring(text)",
            "p.setFeature(feature_external_ges, False)",
        ],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_gives_findings_inside_it(parts in prop::collection::vec(prop::sample::select(PARTS), 0..40)) {
        let text = parts.concat();
        if let Ok(parsed) = parse(Language::Python, &text) {
            for finding in analyze(&parsed) {
                prop_assert!(finding.span.text(&text).is_some_and(|found| !found.is_empty()));
            }
        }
    }
}

const PARTS: &[&str] = &[
    "def f(a, b):\n",
    "    ",
    "\n",
    "os.system(",
    "a",
    " + ",
    "'x %s {} '",
    " % ",
    ")",
    "open(",
    "eval(",
    "f'<b>{a!r:>{b}}</b>'",
    "if ",
    ":\n",
    "return ",
    "not in ",
    "(",
    "[",
    "]",
    "x = ",
    "for x in ",
    ".format(",
    "cursor.execute(",
    "é",
    "try:\n",
    "except:\n",
    "else:\n",
    "'SELECT %(a)s %'",
    ".startswith(",
    "re.sub(",
    "{'a': ",
    "}",
    "*a",
    "lambda: ",
    "hashlib.md5(",
    "random.random()",
    "token = ",
    "==",
    "\"",
];

#[test]
fn deep_nesting_is_survived() {
    for text in [
        format!("def f(a):\n    return {}a{}\n", "(".repeat(3_000), ")".repeat(3_000)),
        format!("def f(a):\n    x = {}a\n", "a + ".repeat(5_000)),
        format!("def f(a):\n    x = {}a\n", "not ".repeat(3_000)),
        format!("def f(a):\n    if {}a:\n        pass\n", "a and ".repeat(3_000)),
    ] {
        if let Ok(parsed) = parse(Language::Python, &text) {
            analyze(&parsed);
        }
    }
}
