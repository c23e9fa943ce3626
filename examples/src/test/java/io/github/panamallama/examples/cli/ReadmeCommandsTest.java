package io.github.panamallama.examples.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import picocli.CommandLine;

/** What the README says of the command line is there, and it leaves out no command. */
class ReadmeCommandsTest {
    private static final Pattern ROW = Pattern.compile("(?m)^\\| `([a-z][^`]*)` \\|(.*)\\|$");
    private static final Pattern CODE = Pattern.compile("`([^`\n]+)`");
    private static final Pattern CALL = Pattern.compile("\\./panama-llama ([a-z][^\n`|]*)");
    private static final Pattern OPTION = Pattern.compile("-[a-zA-Z]+|--[a-z][a-z-]*");
    /** Of other programs: java, the builds of the natives and the benchmarks. */
    private static final Set<String> OTHERS = Set.of("--enable-native-access", "--add-modules");

    private static String readme;
    /** Commands without subcommands, by their whole names. */
    private static Map<String, Set<String>> options;

    @BeforeAll
    static void read() throws IOException {
        readme = Files.readString(Path.of("..", "README.md"));
        var line = new CommandLine(new Main(null, null));
        Main.COMMANDS.forEach(line::addSubcommand);
        options = new LinkedHashMap<>();
        collect("", line);
    }

    private static void collect(String prefix, CommandLine line) {
        line.getSubcommands().forEach((name, command) -> {
            if (command.getSubcommands().isEmpty()) {
                options.put(prefix + name, command.getCommandSpec().optionsMap().keySet());
            } else {
                collect(prefix + name + " ", command);
            }
        });
    }

    private static Map<String, String> rows() {
        var rows = new LinkedHashMap<String, String>();
        var section = readme.substring(readme.indexOf("\n## Commands\n"));
        ROW.matcher(section.substring(0, section.indexOf("\n## ", 5))).results().forEach(row -> rows.put(row.group(1), row.group(2)));
        return rows;
    }

    /** The command that a line begins with. */
    private static String commandOf(String line) {
        return options.keySet().stream().filter(name -> (line + " ").startsWith(name + " ")).findFirst().orElse(null);
    }

    private static List<String> optionsIn(String line) {
        var found = new ArrayList<String>();
        for (var word : line.replaceAll("'[^']*'", "''").split("\\s+#|&&")[0].split("[\\s=]+")) {
            if (OPTION.matcher(word).matches()) {
                found.add(word);
            }
        }
        return found;
    }

    @Test
    void everyCommandHasItsRow() {
        var rows = new ArrayList<String>();
        rows().keySet().forEach(row -> rows.add(String.valueOf(commandOf(row))));
        assertEquals(new TreeSet<>(options.keySet()), new TreeSet<>(rows), "commands, and those that the README has rows for");
        assertEquals(rows.size(), new HashSet<>(rows).size(), "one row each: " + rows);
    }

    @Test
    void theOptionsInARowAreThoseOfItsCommand() {
        int seen = 0;
        for (var row : rows().entrySet()) {
            var command = commandOf(row.getKey());
            var named = optionsIn(row.getKey());
            CODE.matcher(row.getValue()).results().map(code -> code.group(1)).filter(code -> code.startsWith("-"))
                    .forEach(code -> named.addAll(optionsIn(code)));
            for (var option : named) {
                assertTrue(options.get(command).contains(option), () -> command + " has no " + option);
                seen++;
            }
        }
        assertTrue(seen > 40, "options in rows: " + seen);
    }

    @Test
    void callsNameCommandsAndOptionsThatExist() {
        var calls = new ArrayList<>(CALL.matcher(readme).results().map(call -> call.group(1)).toList());
        assertTrue(calls.size() > 25, calls.toString());
        // and `quantize --plan`
        CODE.matcher(readme).results().map(code -> code.group(1)).filter(code -> code.contains(" -") && commandOf(code) != null)
                .forEach(calls::add);
        for (var line : calls) {
            for (var call : line.split("&& \\./panama-llama ")) {
                var command = commandOf(call);
                assertTrue(command != null, () -> "no command: " + call);
                for (var option : optionsIn(call)) {
                    assertTrue(options.get(command).contains(option), () -> command + " has no " + option + ": " + call);
                }
            }
        }
    }

    @Test
    void optionsInTheTextExistSomewhere() {
        var all = new HashSet<String>(OTHERS);
        options.values().forEach(all::addAll);
        int seen = 0;
        for (var code : CODE.matcher(readme).results().map(code -> code.group(1)).filter(code -> code.startsWith("--")).toList()) {
            for (var option : optionsIn(code)) {
                assertTrue(all.contains(option), () -> "no command has " + option + ", which the README names in `" + code + "`");
                seen++;
            }
        }
        assertTrue(seen > 40, "options in the text: " + seen);
    }
}
