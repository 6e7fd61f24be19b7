"""Small templates that make_golden.py renders: what Jinja and Python mean by them is in expressions.json."""

VARIABLES = {
    "a": 7,
    "b": -3,
    "f": 2.5,
    "big": 123456789012345678901234567890,
    "t": True,
    "n": None,
    "s": "Hello World",
    "u": "Größe 😀 ß",
    "ws": "  \t pad \n ",
    "empty": "",
    "l": [3, 1, 2],
    "names": ["Bob", "alice", "Carol", "bob"],
    "d": {"k": 1, "b": [1, 2.0, "x"], "items": 5, "z": None},
    "msgs": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A", "tool_calls": [{"name": "f"}]},
    ],
    "quotes": ["it's", 'say "hi"', "both ' and \"", "back\\slash", "tab\tnew\n", "\u200b\x07é😀"],
    "html": "<a href='x'>&</a>",
}

# Expressions; each is printed.
EXPRESSIONS = """
a + b * 2
a - b - 1
a / 2
a // 2
b // 2
a % 3
b % 3
a % b
7.5 // 2
-7.5 // 2
-7.5 % 2
7.5 % -2
6 / 3
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
-a ** 2
big + 1
big * big
big // 7
big / 3
1 / 0
1 // 0
1.0 % 0
a ~ b ~ f
s + a
s * 2
2 * 'ab'
'ab' * -1
[1] + [2]
[1] * 3
(1,) + (2, 3)
[1] + (2,)
1 + true
true + true
t == 1
1.0 == 1
'1' == 1
none == none
missing == missing2
[1, 2] == [1, 2]
(1, 2) == [1, 2]
{'a': 1} == {'a': 1.0}
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 != 1
'a' < 'b'
'Z' < 'a'
'a' < 1
[1, 2] < [1, 3]
none < 1
'ell' in s
'x' not in s
1 in l
1 not in l
'k' in d
5 in d
1 in 'a1'
'a' in missing
missing in l
not t
not empty and not n
t and s
empty or 'default'
n or empty or 0
t and not empty or n
'yes' if t else 'no'
'yes' if empty else 'no'
'yes' if empty
('a' if t) ~ 'b'
'a' if n else 'b' if empty else 'c'
1 if true else 2 if true else 3
missing
missing.x
missing['x']
missing()
missing + 'a'
missing ~ 'a'
missing | length
missing | default('dd')
missing is defined
missing is undefined
missing.x is defined
d.missing is defined
d.missing.x is defined
d.k is defined
n is none
n is defined
none
true
false
True
None
[true, none, 1.5, 'x']
d
d.items
d['items']
d.k
d['k']
d.b[1]
d.b.0
d.b[-1]
d.b[9]
d.get('k')
d.get('nope')
d.get('nope', 3)
d.keys() | list
d.values() | list
d.items() | list
d.keys()
d.items() | length
d.update({'a': 1})
l.append(4)
l.pop()
d | items | list
d | dictsort
d | dictsort(by='value')
{'b': 1, 'A': 2, 'c': 0} | dictsort
{'b': 1, 'A': 2, 'c': 0} | dictsort(true)
{'b': 1, 'A': 2, 'c': 0} | dictsort(false, 'value', true)
d | length
d | list
s[0]
s[-1]
s[20]
s[1:4]
s[:-3]
s[-3:]
s[::-1]
s[::2]
s[5:1:-1]
s[:100]
s[100:]
s[::0]
u[6]
u[::-1]
u | length
u | upper
u | reverse
l[::-1]
l[1:]
l[:1]
l[-2:]
l[5:]
(1, 2, 3)[::-1]
msgs[1:] | length
msgs[::-1][0].role
range(5) | list
range(1, 10, 3) | list
range(5, 0, -2) | list
range(3)
range(0, 6, 2)
range(3)[::-1] | list
range(10)[2]
range(1000000)
range(1, 2, 0)
s | upper
s | lower
s.upper()
s.title()
'they\\'re bill\\'s' | title
"they're bill's".title()
'hello wORLD-foo (bar)' | title
'hELLO wORLD' | capitalize
'hELLO'.capitalize()
'aBc'.swapcase()
s | length
s | count
ws | trim
ws.strip() ~ '|'
ws.lstrip() ~ '|'
ws.rstrip() ~ '|'
'xxhixx' | trim('x')
'xyhiyx'.strip('xy')
'xyhiyx'.lstrip('xy')
'xyhiyx'.rstrip('xy')
'\\n\\nhi\\n'.strip('\\n')
s.split()
s.split('o')
s.split('o', 1)
s.rsplit('o', 1)
s.split('zz')
'a,,b'.split(',')
' a  b '.split()
' a  b '.split(' ')
' a b c '.split(none, 1)
' a b c '.rsplit(none, 1)
''.split()
''.split(',')
s.split('')
s.split('</think>')[-1]
'a\\nb\\r\\nc'.splitlines()
'a\\nb\\n'.splitlines(true)
s.replace('o', '0')
s.replace('o', '0', 1)
s.replace('', '-')
s | replace('l', 'L')
s | replace('l', 'L', 2)
s.startswith('Hell')
s.endswith('ld')
s.startswith(('x', 'He'))
s.startswith('')
s.find('o')
s.rfind('o')
s.find('zz')
u.find('ß')
s.index('zz')
s.index('W')
s.count('o')
s.count('')
'abc'.isalpha()
'ab1'.isalnum()
'12'.isdigit()
''.isdigit()
'abc'.islower()
'ABC'.isupper()
'  '.isspace()
', '.join(['a', 'b'])
', '.join([1])
''.join(s)
l | join
l | join(', ')
msgs | join(', ', attribute='role')
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'prefix-x'.removeprefix('prefix-')
'x.py'.removesuffix('.py')
'7'.zfill(3)
'-7'.zfill(4)
'ab'.center(7) ~ '|'
'ab'.ljust(5) ~ '|'
'ab'.rjust(5, '*')
'ab' | center(6) ~ '|'
'{} and {}'.format(1, 'x')
'{0} {1} {0}'.format('a', 'b')
'{x}'.format(x=5)
'{{}} {}'.format(1)
'{}'.format()
'%s is %d' % ('x', 5)
'%s' % 'x'
'%s' % d
'%5.2f|' % 3.14159
'%-5s|' % 'ab'
'%05d' % 42
'%x %X %o' % (255, 255, 8)
'%(k)s' % d
'%d' % 'x'
'%s' % (1, 2)
'%s %s' % (1,)
'100%%' % ()
'%s-%s' | format('a', 'b')
l | first
l | last
[] | first
[] | last
s | first
s | last
l | sort
l | sort(reverse=true)
names | sort
names | sort(case_sensitive=true)
names | sort(reverse=true)
msgs | sort(attribute='role') | map(attribute='role') | list
[1, 'a'] | sort
l | reverse | list
l | reverse | first
s | reverse
l | sum
l | min
l | max
names | min
names | max
[] | max
[[1, 2], [3]] | sum(start=[])
msgs | map(attribute='role') | list
msgs | map(attribute='role') | join(',')
msgs | map(attribute='nope', default='-') | list
msgs | map(attribute='tool_calls.0.name', default='?') | list
names | map('upper') | list
names | map('replace', 'o', '0') | list
msgs | map('length') | list
names | map
names | unique | list
names | unique(true) | list
msgs | selectattr('role', 'equalto', 'user') | list
msgs | selectattr('role', 'eq', 'user') | map(attribute='content') | first
msgs | rejectattr('role', 'equalto', 'user') | list | length
msgs | selectattr('tool_calls', 'defined') | list | length
msgs | selectattr('tool_calls') | list | length
msgs | rejectattr('tool_calls') | map(attribute='role') | list
msgs | selectattr('role', 'in', ['user', 'system']) | list | length
msgs | selectattr('role', 'equalto', 'nope') | list
msgs | selectattr('role', 'equalto', 'nope') | length
l | select('odd') | list
l | reject('odd') | list
l | select('greaterthan', 1) | list
[0, 1, '', 'x', none] | select | list
[0, 1, '', 'x', none] | reject | list
l | batch(2) | list
l | batch(2, 0) | list
l | slice(2) | list
l | list
s | list
d | map('upper') | list
a | string
f | string
l | string | length
'42' | int
'4.9' | int
'x' | int
'x' | int(9)
'ff' | int(base=16)
'0x1F' | int(0, 16)
f | int
n | int
' 12 ' | int
'1_000' | int
'2.5' | float
'x' | float
a | float
'1e3' | float
b | abs
-2.5 | abs
'x' | abs
2.5 | round
3.5 | round
2.675 | round(2)
1234.5 | round(-2)
42 | round
42.42 | round(1, 'ceil')
42.47 | round(1, 'floor')
-2.5 | round
0.125 | round(2)
s | truncate(8)
s | truncate(5, true, '')
s | truncate(8, leeway=0)
'one two three four' | truncate(11, false, '..', 0)
s | wordcount
html | e
html | escape
html | safe
(html | safe) + '<'
'<' + (html | safe)
(html | safe) ~ '<'
(html | e | e)
(html | safe).upper()
html | forceescape
'a\\nb\\n\\nc' | indent
'a\\nb\\n\\nc' | indent(2, true)
'a\\nb\\n\\nc\\n' | indent(2, blank=true)
'a\\nb' | indent('> ')
d | tojson
d | tojson(indent=2)
d | tojson(indent=4)
d | tojson(sort_keys=true)
d | tojson(separators=(',', ':'))
u | tojson
u | tojson(ensure_ascii=true)
quotes | tojson
quotes
quotes | string
html | tojson
[] | tojson(indent=2)
{} | tojson(indent=2)
[[], {}] | tojson(indent=2)
[1.0, 1e20, 1e-7, true, none] | tojson
(1, 2) | tojson
{1: 'a', true: 'b', none: 'c', 2.5: 'd'} | tojson
{1: 'a', 1.0: 'b', true: 'c'}
missing | tojson
l | map('string') | tojson
1e3
1e16
1e15
123456789.123
1.5e-5
0.0001
0.00001
1e22
1e23
0.1 + 0.2
100.0
-0.0
1e400
0x1f
0b101
0o17
1_000
1_0.5
'a' 'b'
"x\\ty"
'\\x41\\u00e9\\U0001F600'
'\\d'
'\\101'
(1,)
()
(1, 2)
1, 2
{'a': [1, {'b': none}], 'c': (1,)}
[1, 2,]
{'a': 1,}
a is number
f is float
a is integer
t is integer
t is number
t is boolean
n is boolean
s is string
l is string
l is sequence
d is sequence
s is sequence
a is sequence
l is iterable
a is iterable
d is mapping
l is mapping
a is odd
a is even
a is divisibleby 7
a is divisibleby(3)
a is eq 7
a is equalto(7)
a is ne 7
a is gt 5
a is lt 5
a is ge(7)
a is le 6
1 is in l
1 is not in l
s is lower
'abc' is lower
'ABC' is upper
t is true
t is false
t is sameas true
1 is sameas true
range is callable
s is callable
s.upper is defined
s.nope is defined
'upper' is filter
'nope' is filter
'odd' is test
html | safe is escaped
a is not none
not a is none
a is defined and a > 3
a is defined or missing.x
missing is not defined or missing.x
a is string or a is number
-a | abs
-3 | abs
- 3 + 5
+a
2 * -3
2 - -3
not 1 == 2
(a, b) | list
a if a is odd else b
'%s' % (a)
l.index(1)
l.index(9)
l.count(1)
(1, 2, 1).count(1)
dict(a=1, b=2)
dict([('a', 1)])
dict(d, k=9)
dict(a=1).a
namespace(x=1).x
namespace(x=1).y is defined
namespace({'q': 2}).q
loop
strftime_now('%d %b %Y')
strftime_now('%Y-%m-%d %H:%M:%S')
strftime_now('%A %B %-d %j %y %I %p')
raise_exception('no')
s.upper().lower().title()
s['upper']()
d['get']('k')
d.k.x
d.k.x is defined
a.b
a[0]
n.x
n[0] is defined
s.x
'a'.upper
l[none]
l['x']
l[1.0]
l[true]
d[none]
d[[1]]
msgs[0].role ~ ':' ~ msgs[0]['content']
msgs[-1].tool_calls[0].name
'tool_calls' in msgs[-1]
msgs[0].tool_calls is defined and msgs[0].tool_calls
msgs | length > 2
(msgs | length) - 1
msgs | last
l | length == 3 and s | length == 11
[l, s] | map('length') | sum
"İstanbul" | lower
"ΟΔΟΣ" | lower
'ǆ' | upper
'a' < 'é' < '数' < '😀'
'\uffff' < '😀'
s | attr('upper')
d | attr('k') is defined
{'a': 1}['a']
[1, 2, 3][1]
'abc'[1]
{'x': {'y': [10, 20]}}.x.y[1]
'a b'.split()[1].upper()
l | sort | first + 1
1 + 2 ~ 3 + 4
1 ~ 2 * 3
'a' ~ 1 + 2
1.5 ~ none ~ true
[1,2] | join(',') | upper | length
"x" in ["x", "y"] and "z" not in ["x"]
t == true and n == none
true and false or true
not true or true
1 == 1.0 == true
(msgs | selectattr('role', 'equalto', 'nope')) and 'generators are true'
l | map('abs')
"a{b}c"
'{{ not a tag }}'
"{% raw %}"
""".strip().splitlines()

# Whole templates.
TEMPLATES = [
    "a\n",
    "a\n\n",
    "a\r\nb\rc\r\n",
    "  {% if t %}\n  x\n  {% endif %}\n  y",
    "  {{ a }}  \n{{ b }}\n",
    "a {%- if t -%} b {%- endif -%} c",
    "a {%+ if t %} b {% endif +%}\n c",
    "a\n  {%- if t %}\n b\n  {%+ endif %}\nc",
    "x {{- a -}} y",
    "x {{+ a }} y",
    "a {# comment #} b",
    "a\n  {# comment #}\nb",
    "a\n {#- comment -#} \nb",
    "{# {{ a }} #}x",
    "{#-#}x",
    "a{% raw %} {{ x }} {% endraw %}b",
    "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "{% raw %}\n{{ x }}\n{% endraw %}\nz",
    "{% if t %}{% endif %}\n\nz",
    "\t{% if t %}\t\n\tx{% endif %}",
    "{{ '{{' }} {{ '%}' }}",
    "{{ {'a': {'b': 1}} }}",
    "{{ {'a': {'b': 1}}.a.b}}",
    "{%if t%}x{%endif%}",
    "{%- if t %}x{% elif n %}y{% else %}z{% endif %}",
    "{% if n %}x{% elif t %}y{% else %}z{% endif %}",
    "{% if n %}x{% elif empty %}y{% else %}z{% endif %}",
    "{% for x in l %}{{ x }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}"
    "{{ loop.last }}{{ loop.length }}{{ loop.depth }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}/{{ loop.length }} {% else %}none{% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}",
    "{% for (x, y) in [(1, 2), (3, 4)] %}{{ x + y }};{% endfor %}",
    "{% for x, (y, z) in [(1, (2, 3))] %}{{ x }}{{ y }}{{ z }}{% endfor %}",
    "{% for x, y in [(1, 2, 3)] %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in missing %}x{% else %}e{% endfor %}",
    "{% for x in n %}x{% endfor %}",
    "{% for c in 'añ😀' %}[{{ c }}]{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}!",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in l %}{% set y = x %}{% endfor %}{{ y is defined }}",
    "{% set y = 0 %}{% for x in l %}{% set y = y + x %}{{ y }}{% endfor %}{{ y }}",
    "{% set ns = namespace(y=0) %}{% for x in l %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set d.x = 1 %}",
    "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if t %}{% set q = 2 %}{% endif %}{{ q }}",
    "{% set x, y = 1, 2 %}{{ x }}{{ y }}",
    "{% set x = 1, 2 %}{{ x }}",
    "{% set x %}a{{ a }}b{% endset %}[{{ x }}]",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | trim | upper %}  abc {% endset %}[{{ x }}]",
    "{% set loop_messages = msgs[1:] %}{% for m in loop_messages %}{{ m.role }}{% endfor %}",
    "{% set msgs = msgs[1:] %}{{ msgs | length }}",
    "{% for m in msgs %}{% set msgs = [] %}{{ loop.index }}{% endfor %}{{ msgs | length }}",
    "{% macro m(x, y=2) %}{{ x }}-{{ y }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(y=5, x=4) }}",
    "{% macro m(x) %}{{ x is defined }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(z=2) }}",
    "{% macro m() %}{{ late }}{% endmacro %}{% set late = 1 %}{{ m() }}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ loop is defined }}{% endmacro %}{{ m() }}",
    "{% macro m(x, y=x) %}{{ x }}{{ y }}{% endmacro %}{{ m(1) }}",
    "{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}hi{% endcall %}",
    "{% macro m() %}{{ caller(3) }}!{% endmacro %}{% call(x) m() %}hi{{ x }}{% endcall %}",
    "{% macro m(x, y) %}{{ x }}{{ y }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(1, **{'y': 3}) }}{{ m(*l) }}",
    "{% macro m(x) %}{{ x }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, z=4) }}",
    "{{ '{} {}'.format(*['a', 'b']) }}{{ dict(**{'a': 1}, b=2) }}",
    "{%- macro m() %}\n  text\n{%- endmacro %}\n[{{ m() }}]",
    "{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aab{% endfilter %}",
    "{% with x = 5, y = 6 %}{{ x }}{{ y }}{% endwith %}{{ x is defined }}",
    "{% generation %}{{ a }}{% endgeneration %}",
    "{% for m in msgs %}{% generation %}{{ m.content }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% generation %}\n  a\n{% endgeneration %}\nb",
    "{% print a %}",
    "{% if (a > 1) and (b < 0) %}y{% endif %}",
    "{% if not (a > 1) %}y{% else %}n{% endif %}",
    "{% if a > 1 and b > 0 or s %}y{% endif %}",
    "{% if msgs[0]['role'] == 'system' %}{% set sys = msgs[0]['content'] %}{% else %}{% set sys = '' %}{% endif %}{{ sys }}",
    "{% for m in msgs[::-1] %}{% set i = (msgs | length - 1) - loop.index0 %}{{ i }}{{ m.role }} {% endfor %}",
    "{% for m in msgs | reverse %}{{ m.role }}{{ loop.last }} {% endfor %}",
    "{% for m in msgs %}{% if loop.last or (not loop.last and msgs[loop.index0 + 1].role != 'user') %}{{ m.role }};{% endif %}{% endfor %}",
    "{% for m in msgs %}{% if m.role == 'user' %}U{% elif m.role == 'system' %}S{% else %}"
    "{{ raise_exception('role ' + m.role) }}{% endif %}{% endfor %}",
    "{% set x = [] %}{% for m in msgs %}{% set x = x + [m.role] %}{% endfor %}{{ x }}",
    "{% for i in range(3) %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for m in msgs | selectattr('role', 'ne', 'system') %}{{ loop.index }}{{ m.role }}{{ loop.length }} {% endfor %}",
    "{% for x in l | sort %}{{ x }}{% endfor %}",
    "{{ a }}{% if true %}\n{% endif %}{{ b }}",
    "{%- for x in l %}\n    {{- x }}\n    {%- if not loop.last %}, {% endif %}\n{%- endfor %}\n",
    "{% set g = l | map('abs') %}{{ g | list }}{{ g | list }}",
    "{% set content = 'x' if msgs[0].content is string else none %}{{ content }}",
    "x{% set x = 1 %}  \n\n  {% set y = 2 %}\n{{ x + y }}",
    "{{ a\n+\nb }}",
    "{{ 'multi\nline' }}",
    "{% if a\n  and b %}ok{% endif %}",
    "{{ s }}\n{%- set x = 1 -%}\n{{ s }}",
    "no tags { } {x} % # }} %} #}",
    "{{ '\\n' }}|\n",
    "{{ namespace(a=1).a + namespace(a=2).a }}",
    "{% set ns = namespace(found=false) %}{% for x in l %}{% if x == 1 and not ns.found %}"
    "{% set ns.found = true %}{{ x }}{% endif %}{% endfor %}",
    # Not templates
    "{{ a",
    "{{ }}",
    "{% if a %}",
    "{% endif %}",
    "{% for x l %}{% endfor %}",
    "{% nope %}",
    "{{ a | nope }}",
    "{{ a is nope }}",
    "{{ (a }}",
    "{{ a ] }}",
    "{{ 'open }}",
    "{# open",
    "{% raw %} open",
    "{{ a ? b }}",
    "{{ a b }}",
    "{% set 1 = 2 %}",
    "{% break %}",
    "{{ 1a }}",
    "{{ a.}}",
    "{{ f(a=1, 2) }}",
    "{% macro m(a=1, b) %}{% endmacro %}",
]

ALL = ["{{ " + e + " }}" for e in EXPRESSIONS] + TEMPLATES
