namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>An operation that Python refuses for these values. The evaluator adds the template's line.</summary>
internal sealed class ValueException(string message) : Exception(message);
