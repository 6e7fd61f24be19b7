using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Training.Runs.Fingerprints;

/// <summary>What a resumed run finds changed since its checkpoint.</summary>
internal static class ResumedData
{
    /// <summary>Changes of these change what the model reads, or in which order.</summary>
    private static readonly string[] Data =
    [
        InputFingerprint.Problems,
        InputFingerprint.Order,
        InputFingerprint.Template,
        InputFingerprint.Tokenizer,
    ];

    /// <summary>Logs every difference, one a line.</summary>
    /// <param name="checkpoint">The checkpoint's folder.</param>
    /// <param name="allowed">The user has said that other data are meant.</param>
    /// <returns>True when the problems or their order are others, so that the position in the old ones means nothing.</returns>
    /// <exception cref="InvalidDataException">The data differ, and that is not allowed.</exception>
    public static bool Check(RunState state, Fingerprint now, string checkpoint, bool allowed, Action<string> log)
    {
        if (state.Fingerprint is not { } then)
        {
            log(
                $"{Path.Combine(checkpoint, RunState.FileName)} has no fingerprint (an older program wrote it): "
                    + "whether data, template and tokenizer are still the same was not checked"
            );
            return false;
        }

        // A key that the checkpoint lacks is newer than the program that wrote it; its default is what that one did.
        string[] changed = [.. then.Differences(now).Where(name => then[name] is not null && now[name] is not null)];
        foreach (string name in changed)
            log($"changed since the checkpoint: {then.Change(name, now)}");

        string[] data = [.. changed.Intersect(Data)];
        if (data.Length > 0 && !allowed)
            throw new InvalidDataException(
                $"{checkpoint} was trained on other data than the recipe's: its {string.Join(", ", data)} changed. "
                    + "Resume with what it had, or with --allow-changed-data: other problems are then taken from their "
                    + "beginning. Or start a new run from it: --set name=... --set model.path="
                    + checkpoint
            );
        return data.Contains(InputFingerprint.Problems) || data.Contains(InputFingerprint.Order);
    }

    /// <summary>Logs which evaluations of a run were not made as those to come, and how they differ.</summary>
    public static void CheckEvaluations(RunFolder run, Fingerprint now, Action<string> log)
    {
        foreach (var (fingerprint, steps) in EvaluationFiles.ByFingerprint(run))
        {
            string[] changed = fingerprint is null ? [] : [.. fingerprint.Differences(now)];
            if (fingerprint is not null && changed.Length == 0)
                continue;
            string why = fingerprint is null
                ? "they have no fingerprint (an older program wrote them)"
                : string.Join("; ", changed.Select(name => fingerprint.Change(name, now)));
            log($"evaluations after step {string.Join(", ", steps)} can't be compared with those to come: {why}");
        }
    }
}
