#!/usr/bin/env bash
# Proves that a refactor changes no bit of a run: runs the quickstart with seed 1 at another commit and in this working
# tree, and compares every figure of metrics.jsonl that both have, but the times. The same machine must run both, because
# the CPU's vector width decides how sums are rounded.
#
# Usage: build/same-run.sh COMMIT [STEPS]      default: 40 steps, about two minutes on two cores
set -euo pipefail
cd "$(dirname "$0")/.."
commit=${1:?usage: build/same-run.sh COMMIT [STEPS]}
steps=${2:-40}
work=$(mktemp -d)
trap 'git worktree remove --force "$work/before" 2>/dev/null; rm -rf "$work"' EXIT

metrics() { # FOLDER: trains there and prints its metrics without times
  (cd "$1" && dotnet run -c Release --project src/SimpleR1 -- train recipes/quickstart.yaml --set seed=1 \
    --set "training.steps=$steps" --runs "$work/runs-$2" >"$work/$2.log" 2>&1) || { cat "$work/$2.log" >&2; exit 1; }
  sed -E 's/"[a-z_]*(seconds|per_second)":[^,}]*,?//g; s/,\}/}/' "$work/runs-$2/quickstart/metrics.jsonl"
}

figures() { grep -oh '"[a-z_0-9]*":' "$1" | sort -u; } # FILE: the names in it
only() { # NAMES FILE: its lines with these figures alone
  awk -v names="$1" 'BEGIN { split(names, list, "\n"); for (i in list) wanted[list[i]] = 1 }
    { gsub(/[{}]/, ""); n = split($0, pairs, ","); line = ""
      for (i = 1; i <= n; i++) { split(pairs[i], pair, ":"); if ((pair[1] ":") in wanted) line = line pairs[i] " " }
      print line }' "$2"
}

git worktree add --quiet --detach "$work/before" "$commit"
metrics "$work/before" before >"$work/before.jsonl"
metrics . after >"$work/after.jsonl"
common=$(comm -12 <(figures "$work/before.jsonl") <(figures "$work/after.jsonl"))
echo "in one of them only: $(comm -3 <(figures "$work/before.jsonl") <(figures "$work/after.jsonl") | tr -d '\n\t')"
if diff <(only "$common" "$work/before.jsonl") <(only "$common" "$work/after.jsonl"); then
  echo "same: $(wc -l <"$work/after.jsonl") lines of metrics equal those of $commit, bit for bit"
else
  echo "different: see the lines above (< $commit, > this tree)" >&2
  exit 1
fi
