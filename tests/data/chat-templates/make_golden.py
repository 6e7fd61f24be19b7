"""Renders the templates and expressions beside this file with jinja2, the way transformers does.

Needs jinja2 3.1 (the files here are of 3.1.6). Run it in this folder: python3 make_golden.py
It writes expressions.json and conversations.json; with a folder of templates, conversations.json there.
"""

import datetime
import itertools
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

import expressions

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2025, 3, 7, 14, 5, 9)


class Generation(jinja2.ext.Extension):
    """The tag of transformers' AssistantTracker; the text is the same with and without it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def _run(self, context, caller):
        return caller()


def environment():
    """As transformers' _compile_jinja_template makes it."""

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


ENVIRONMENT = environment()


def render(template, variables):
    """The text; None if jinja2 refuses, or prints an address of the memory."""
    try:
        text = ENVIRONMENT.from_string(template).render(**variables)
        return None if " at 0x" in text else text
    except Exception:
        return None


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city, in °C.\nNow or later.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city such as \"Zürich\""},
                    "days": {"type": "integer", "default": 1},
                    "units": {"type": ["string", "null"], "enum": ["C", "F"]},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}},
]


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, identifier="call00001"):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "question": [user("What is 12+30-5?")],
    "system": [{"role": "system", "content": "Be brief."}, user("Hi")],
    "empty_system": [{"role": "system", "content": ""}, user("Hi")],
    "turns": [user("1+1?"), assistant("2"), user("And 2+2?"), assistant("4"), user(" Thanks \n")],
    "system_turns": [{"role": "system", "content": " Trim me? \n"}, user("a"), assistant(" b "), user("c")],
    "answered": [user("1+1?"), assistant("2\n")],
    "unicode": [user("Größe von 😀? 数学 \u00a0e\u0301 <b>&'\"\\n</b>")],
    "thoughts": [
        user("1+1?"),
        assistant("<think>\nOne and one.\n</think>\n\n2"),
        user("2+2?"),
        assistant("<think>Two and two.</think>4"),
        user("3+3?"),
    ],
    "reasoning": [user("1+1?"), assistant("2", reasoning_content="One and one."), user("2+2?")],
    "tool_calls": [
        user("Weather?"),
        assistant("", tool_calls=[call("get_weather", {"city": "Zürich", "days": 2})]),
        {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"celsius\": 21.5}"},
        assistant("21.5 °C."),
        user("Thanks"),
    ],
    "two_results": [
        user("Weather and time?"),
        assistant("I look.", tool_calls=[call("get_weather", {"city": "Bern"}), call("now", {}, "call00002")]),
        {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "rain"},
        {"role": "tool", "name": "now", "tool_call_id": "call00002", "content": "12:00"},
    ],
    "two_users": [user("a"), user("b")],
}

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}


def cases():
    """Every conversation, then some with options."""
    for name, messages in CONVERSATIONS.items():
        tools = TOOLS if "tool" in name or "results" in name else None
        for generates in (True, False):
            yield name, messages, tools, {"add_generation_prompt": generates}
    for name, thinks in itertools.product(("question", "thoughts", "reasoning"), (True, False)):
        yield name, CONVERSATIONS[name], None, {"add_generation_prompt": True, "enable_thinking": thinks}
    yield "system", CONVERSATIONS["system"], TOOLS, {"add_generation_prompt": True}
    yield "question", CONVERSATIONS["question"], None, {"add_generation_prompt": True, "date_string": "26 Jul 2024"}


def variables(messages, tools, options):
    """What transformers gives to a template."""
    return {**TOKENS, "messages": messages, "tools": tools, "documents": None, **options}


def conversation_goldens(folder):
    """By template: lists of the conversation's name, whether there are tools, options, and the text or null."""
    goldens = {}
    for path in sorted(folder.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        goldens[path.stem] = [
            [name, tools is not None, options, render(template, variables(messages, tools, options))]
            for name, messages, tools, options in cases()
        ]
    return goldens


def write(path, value):
    text = json.dumps(value, ensure_ascii=False, indent=0, separators=(",", ":"))
    path.write_text(text + "\n", encoding="utf-8")
    print(f"{path}: {len(text)} characters")


def write_conversations(templates, path):
    write(
        path,
        {
            "tokens": TOKENS,
            "tools": TOOLS,
            "conversations": CONVERSATIONS,
            "templates": conversation_goldens(templates),
        },
    )


def main():
    if len(sys.argv) > 1:
        folder = pathlib.Path(sys.argv[1])
        write_conversations(folder, folder / "conversations.json")
        return
    cases = [[e, render(e, expressions.VARIABLES)] for e in expressions.ALL]
    write(HERE / "expressions.json", {"variables": expressions.VARIABLES, "cases": cases})
    write_conversations(HERE / "templates", HERE / "conversations.json")


if __name__ == "__main__":
    main()
