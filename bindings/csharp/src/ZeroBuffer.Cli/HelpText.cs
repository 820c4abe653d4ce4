using System.CommandLine;
using System.Text;

namespace ZeroBuffer.Cli;

/// <summary>Help in lines of 80 columns.</summary>
internal static class HelpText
{
    private const int Width = 80;

    /// <summary>The help of a command.</summary>
    internal static string Of(Command command, Option help, string exitCodes)
    {
        var text = new StringBuilder();
        bool isRoot = command is RootCommand;
        Append(text, "", command.Description ?? "");
        string words = isRoot ? "COMMAND" : $"{command.Name} [OPTIONS] {string.Join(' ', command.Arguments.Select(argument => argument.Name))}";
        text.Append("\nUsage: zerobuffer-cs ").Append(words).Append('\n');
        Section(text, "Commands", command.Subcommands.Select(sub => (sub.Name, sub.Description)));
        Section(text, "Arguments", command.Arguments.Select(argument => (argument.Name, argument.Description)));
        IEnumerable<Option> options = command.Options.Where(option => !ReferenceEquals(option, help)).Append(help);
        Section(text, "Options", options.Select(option => (Names(option), option.Description)));
        if (exitCodes.Length > 0)
        {
            text.Append('\n');
            Append(text, "", "Exit codes: " + exitCodes);
        }
        return text.ToString();
    }

    private static string Names(Option option)
    {
        string letter = option.Aliases.FirstOrDefault() is string alias ? alias + ", " : "    ";
        return letter + option.Name + (option.HelpName is string value ? $" <{value}>" : "");
    }

    private static void Section(StringBuilder text, string title, IEnumerable<(string Name, string? Help)> entries)
    {
        (string Name, string? Help)[] all = entries.ToArray();
        if (all.Length == 0)
        {
            return;
        }
        text.Append('\n').Append(title).Append(":\n");
        int column = all.Max(entry => entry.Name.Length) + 4;
        foreach ((string name, string? help) in all)
        {
            Append(text, "  " + name.PadRight(column - 2), help ?? "");
        }
    }

    /// <summary>Appends a text that goes on below, in the column where it began.</summary>
    private static void Append(StringBuilder text, string start, string words)
    {
        var line = new StringBuilder(start);
        bool isEmpty = true;
        foreach (string word in words.Split(' '))
        {
            if (!isEmpty && line.Length + 1 + word.Length > Width)
            {
                text.Append(line).Append('\n');
                line.Clear().Append(' ', start.Length);
                isEmpty = true;
            }
            if (!isEmpty)
            {
                line.Append(' ');
            }
            line.Append(word);
            isEmpty = false;
        }
        text.Append(line).Append('\n');
    }
}
