using System.Numerics;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>What Python calls the types of values, for errors.</summary>
internal static class TypeNames
{
    public static string Of(object value) =>
        value switch
        {
            None => "NoneType",
            bool => "bool",
            BigInteger => "int",
            double => "float",
            string => "str",
            Markup => "Markup",
            Sequence sequence => sequence.TypeName,
            Mapping => "dict",
            NumberRange => "range",
            DictView view => view.Kind,
            OneShot => "generator",
            Namespace => "Namespace",
            Undefined => "Undefined",
            LoopState => "LoopContext",
            _ => "function",
        };
}
