"""Writes small tokenizer.json files with the normalizers, pre-tokenizers, decoders and post-processors of real ones.

Each file has the objects of the model it is named after, with a small vocabulary trained here by plain byte-pair
encoding. Needs nothing but Python.
"""

import collections
import json
import re

CORPUS = """
The quick brown fox jumps over the lazy dog. the there then them they this that those these I'm we're they've she'll
don't can't it's He'd WE'RE IT'S the answer is 42 and 1234567 plus 3.14159 = 100,000 million; def main(): return x[i]
for i in range(10): print("hello world") if (a == b) { c += 1; } // comment <think> </think> <answer> </answer> ...
école élève été über straße naïve façade señor niño ação привет мир это тест шрифт русский язык мир мир
你好 世界 中文 测试 一二三 こんにちは 世界 カタカナ ひらがな 안녕하세요 세계 한국어 مرحبا بالعالم اللغة العربية हिन्दी नमस्ते दुनिया
สวัสดี ชาวโลก ภาษาไทย שלום עולם γειά σου κόσμε 😀 😀 😀😀 👍 👍🏽 👨‍👩‍👧 🇩🇪 🇫🇷 𐐀𐐁𐐂 𐐨𐐩 𝒳𝒴 𝟘𝟙𝟚 𠀀𠀁𠮷 𠮷野家 ①②③ ½ ¾ № ™ € £ ¥
Hello, World! HELLO hello World WORLD fiﬁ ﬀ Å Å ö ö á á e\u0301 a\u0308 ... --- !!! ??? :) ;-) #hashtag @user
   spaces    and   more        runs	tabs		here  the  the   the
"""

L3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = L3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
HAN = r"[\p{Han}]+|" + O200K.replace(r"\p{M}]", r"\p{M}&&[^\p{Han}]]")
DEEPSEEK_LLM = (
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄ"
    "ῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ"
    "𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+"
)
DEEPSEEK_V3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_characters():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(extra)) for b in range(256)]


BYTES = byte_characters()


def train(words, count):
    """The most frequent pairs, merged one after another; words are lists of symbols."""
    words = collections.Counter(tuple(w) for w in words)
    merges = []
    for _ in range(count):
        pairs = collections.Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            break
        merges.append(best)
        merged = collections.Counter()
        for word, n in words.items():
            out = []
            for symbol in word:
                if out and (out[-1], symbol) == best and not (len(out) > 1 and out[-1] is None):
                    out[-1] += symbol
                else:
                    out.append(symbol)
            merged[tuple(out)] += n
        words = merged
    return merges


def model(vocab, merges, **options):
    tokens = list(dict.fromkeys(vocab + [a + b for a, b in merges]))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        **options,
        "vocab": {t: i for i, t in enumerate(tokens)},
        "merges": [f"{a} {b}" for a, b in merges],
    }


def byte_model(**options):
    words = re.findall(r" ?\w+| ?[^\w\s]+|\s+", CORPUS)
    merges = train([[BYTES[b] for b in w.encode()] for w in words], 220)
    result = model(BYTES, merges, **options)
    if options.get("ignore_merges"):  # tokens that no merge makes, found as whole words only
        for word in ("Ġquick", "Ġjumps", "hello"):
            result["vocab"].setdefault(word, len(result["vocab"]))
    return result


def fallback_model(special, words=None, **options):
    words = words or [("▁" + w) for w in CORPUS.split()]
    merges = train(words, 160) + [("▁", "▁"), ("▁▁", "▁▁")]
    letters = sorted({c for a, b in merges for c in a + b} | set("▁abcdefghijklmnopqrstuvwxyz,.é"))
    vocab = special + [f"<0x{b:02X}>" for b in range(256)] + letters
    return model(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True, **options)


def added(contents, vocab, **options):
    entries = []
    next_id = len(vocab)
    for content in contents:
        name, own = content if isinstance(content, tuple) else (content, {})
        token_id = vocab.get(name)
        if token_id is None:
            token_id = next_id
            next_id += 1
        entry = {"id": token_id, "content": name, "single_word": False, "lstrip": False, "rstrip": False}
        entries.append({**entry, "normalized": False, "special": True, **options, **own})
    return entries


def sequence(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


def byte_level(prefix=False, regex=True, trim=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": regex}


def split(regex, behavior="Isolated", invert=False, key="Regex"):
    return {"type": "Split", "pattern": {key: regex}, "behavior": behavior, "invert": invert}


def bos(token, token_id):
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [token_id], "tokens": [token]}},
    }


def replace(old, new, key="String"):
    return {"type": "Replace", "pattern": {key: old}, "content": new}


def metaspace(**options):
    return {"type": "Metaspace", "replacement": "▁", **options}


def write(name, model, tokens, normalizer=None, pre=None, post=None, decoder=None, **options):
    entries = added(tokens, model["vocab"], **options)
    root = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": entries,
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "post_processor": post(entries[0]) if callable(post) else post,
        "decoder": decoder,
        "model": model,
    }
    with open(f"{name}.json", "w", encoding="utf-8", newline="\n") as out:
        json.dump(root, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")


def first_as_bos(entry):
    return bos(entry["content"], entry["id"])


TEXT = {"special": False}
THINK = [("<think>", TEXT), ("</think>", TEXT)]
LLAMA_DECODER = sequence(
    "decoders",
    replace("▁", " "),
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
)
LLAMA_NORMALIZER = sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁"))
LLAMA_SPECIAL = ["<unk>", "<s>", "</s>"]
RSTRIP = {"rstrip": True}
LLAMA_TOKENS = ["<s>", "<unk>", "</s>"]

# Llama and its relatives: characters with byte fallback
llama = fallback_model(LLAMA_SPECIAL)
write("llama2", llama, LLAMA_TOKENS, LLAMA_NORMALIZER, None, first_as_bos, LLAMA_DECODER)
write("tinyllama", llama, LLAMA_TOKENS, LLAMA_NORMALIZER, None, first_as_bos, LLAMA_DECODER, normalized=True)
write(
    "phi3",
    llama,
    ["<s>", "<unk>", ("</s>", RSTRIP), "<|endoftext|>", ("<|assistant|>", RSTRIP), ("<|end|>", RSTRIP)],
    LLAMA_NORMALIZER,
    None,
    first_as_bos,
    LLAMA_DECODER,
)
first = metaspace(prepend_scheme="first", split=False)
write("mistral-v3", llama, LLAMA_TOKENS + ["[INST]", "[/INST]"], None, first, first_as_bos, LLAMA_DECODER)
old = metaspace(add_prefix_space=True)
write("metaspace", llama, LLAMA_TOKENS, None, old, first_as_bos, metaspace(add_prefix_space=True))
never = metaspace(prepend_scheme="never", split=True)
write("metaspace-never", llama, LLAMA_TOKENS, None, never, None, never)
gemma_words = [w.replace(" ", "▁") for w in re.findall(r"\S* +|\S+", CORPUS)]
write(
    "gemma",
    fallback_model(["<pad>", "<eos>", "<bos>", "<unk>", "\n\n", "▁▁▁"], gemma_words),
    ["<bos>", "<pad>", "<eos>", "<unk>", ("\n\n", TEXT), ("▁▁▁", TEXT), "<start_of_turn>", "<end_of_turn>"],
    replace(" ", "▁"),
    split(" ", "MergedWithPrevious", key="String"),
    first_as_bos,
    sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}),
)

# Byte-level ones
plain = byte_model()
write("gpt2", plain, ["<|endoftext|>"], None, byte_level(), byte_level(trim=True), byte_level(True))
write("gpt2-prefix", plain, ["<|endoftext|>"], None, byte_level(True), byte_level(True), byte_level(True))
spaces = [(" " * n, {"special": False, "normalized": True}) for n in (9, 8, 4, 3, 2)]
write("phi2", plain, ["<|endoftext|>"] + spaces, None, byte_level(), byte_level(), byte_level())
write("pythia", plain, ["<|endoftext|>"] + spaces, {"type": "NFC"}, byte_level(), byte_level(), byte_level())
l3 = sequence("pretokenizers", split(L3), byte_level(regex=False))
write(
    "llama3",
    byte_model(ignore_merges=True),
    ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"],
    None,
    l3,
    lambda entry: sequence("processors", byte_level(True, trim=False), first_as_bos(entry)),
    byte_level(True),
)
o200k = sequence("pretokenizers", split(O200K, "Removed", True), byte_level(regex=False))
phi4 = ["<|endoftext|>", ("<|end|>", {"lstrip": True, "rstrip": True}), ("<|tag|>", {"single_word": True})]
write("phi4-mini", plain, phi4, None, o200k, byte_level(), byte_level())
qwen = sequence("pretokenizers", split(QWEN), byte_level(regex=False))
qwen_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *THINK]
write("qwen2.5", plain, qwen_tokens, {"type": "NFC"}, qwen, byte_level(), byte_level())
smollm = sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, byte_level())
write("smollm", plain, qwen_tokens, None, smollm, None, byte_level(True))
han = sequence("pretokenizers", split(HAN), byte_level(regex=False))
write("kimi", plain, ["[BOS]", "[EOS]"], None, han, None, byte_level())
deepseek_tokens = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ("<think>", {"special": False, "normalized": True})]
llm = sequence(
    "pretokenizers",
    split("[\r\n]"),
    split(DEEPSEEK_LLM),
    split(r"\s?[!-/:-~！-／：-～‘-‟　-。]+"),
    split(r"\s+$"),
    split("[一-龥ࠀ-一가-퟿]+"),
    {"type": "Digits", "individual_digits": True},
    byte_level(regex=False, trim=True),
)
write("deepseek-llm", plain, deepseek_tokens, sequence("normalizers"), llm, byte_level(True), byte_level(True))
coder = sequence(
    "pretokenizers",
    split("[\r\n]"),
    split(r"\s?\p{L}+"),
    split(r"\s?\p{P}+"),
    split("[一-龥ࠀ-一가-퟿]+"),
    {"type": "Digits", "individual_digits": True},
    byte_level(regex=False, trim=True),
)
write("deepseek-coder", plain, deepseek_tokens, sequence("normalizers"), coder, byte_level(True), byte_level(True))
v3 = sequence(
    "pretokenizers",
    split(r"\p{N}{1,3}"),
    split("[一-龥぀-ゟ゠-ヿ]+"),
    split(DEEPSEEK_V3),
    byte_level(regex=False, trim=True),
)
write("deepseek-v3", plain, deepseek_tokens, sequence("normalizers"), v3, first_as_bos, byte_level())
falcon = sequence(
    "pretokenizers",
    {"type": "Punctuation", "behavior": "Contiguous"},
    byte_level(regex=True),
    {"type": "Digits", "individual_digits": False},
    split("[0-9][0-9][0-9]"),
)
write("falcon", plain, ["<|endoftext|>"], None, falcon, byte_level(), byte_level())
bloom = sequence("pretokenizers", split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), byte_level(regex=False))
write("bloom", plain, ["<unk>", "<s>"], None, bloom, byte_level(), byte_level())

# Rare steps
clip_words = [[*(BYTES[b] for b in w.encode()[:-1]), BYTES[w.encode()[-1]] + "</w>"] for w in CORPUS.lower().split()]
clip_merges = train(clip_words, 150)
clip = model(BYTES + [b + "</w>" for b in BYTES] + ["<|end|>"], clip_merges, unk_token="<|end|>", end_of_word_suffix="</w>")
clip_pre = sequence(
    "pretokenizers",
    split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "Removed", True),
    byte_level(regex=False),
)
clip_normalizer = sequence("normalizers", {"type": "NFC"}, replace(r"\s+", " ", "Regex"), {"type": "Lowercase"})
write("clip", clip, ["<|end|>"], clip_normalizer, clip_pre, None, sequence("decoders", byte_level(), replace("</w>", " ")))

words = re.findall(r"\w+|[^\w\s]+", CORPUS.lower())
pieces = train([[w[0], *("##" + c for c in w[1:])] for w in words], 0)
letters = sorted({c for w in words for c in w})
rare = model(["[UNK]", *letters, *("##" + c for c in letters)], pieces, unk_token="[UNK]", continuing_subword_prefix="##")
rare_normalizer = sequence(
    "normalizers",
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "NFKD"},
    {"type": "StripAccents"},
    {"type": "Lowercase"},
    {"type": "Nmt"},
    {"type": "NFKC"},
)
rare_pre = sequence("pretokenizers", {"type": "Whitespace"}, {"type": "Punctuation", "behavior": "MergedWithPrevious"})
write("rare", rare, ["[UNK]", ("[MASK]", {"lstrip": True})], rare_normalizer, rare_pre, None, None)
mixed = model(["<unk>", *letters, *letters[0].split()], [], unk_token="<unk>")
mixed_pre = sequence(
    "pretokenizers",
    {"type": "WhitespaceSplit"},
    split(r"(?<=\d)\b|[[:upper:]]++", "MergedWithNext"),
    {"type": "CharDelimiterSplit", "delimiter": "-"},
    {"type": "FixedLength", "length": 3},
)
strip = {"type": "Strip", "content": "e", "start": 0, "stop": 1}
mixed_decoder = sequence("decoders", replace("a", "A"), strip, {"type": "Fuse"}, replace("lo", "0"))
write("mixed", mixed, ["<unk>"], {"type": "NFD"}, mixed_pre, None, mixed_decoder)
byte_normalizer = sequence("normalizers", {"type": "NFKC"}, {"type": "ByteLevel"})
write("byte-normalizer", plain, ["<s>"], byte_normalizer, split(r"Ġ?\w+", "Contiguous"), None, byte_level())
