package io.github.panamallama.examples.cli;

import io.github.panamallama.runtime.ContextFullException;
import io.github.panamallama.runtime.EmbeddingException;
import io.github.panamallama.runtime.InsufficientMemoryException;
import io.github.panamallama.runtime.LlamaException;
import java.io.PrintWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileSystemException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CancellationException;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ScopeType;
import picocli.CommandLine.Spec;
import picocli.CommandLine.TypeConversionException;
import picocli.CommandLine.UnmatchedArgumentException;

/**
 * The command line's entry. Exit codes: {@value #OK} done, {@value #FAILURE} failed, {@value #USAGE} wrong arguments,
 * {@value #INTERRUPTED} interrupted by Ctrl-C.
 */
@Command(
        name = "panama-llama",
        description = "Language models inside a Java program: completes code, writes text that fits a grammar, chats, and looks into GGUF files.",
        versionProvider = Version.class,
        synopsisSubcommandLabel = "COMMAND",
        usageHelpAutoWidth = true,
        footer = {
            "",
            "Without -m the small Java model that is shipped with the program is used.",
            "'panama-llama COMMAND --help' explains a command.",
            "",
            "Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted.",
        })
final class Main implements Runnable {
    static final int OK = 0;
    static final int FAILURE = 1;
    static final int USAGE = 2;
    static final int INTERRUPTED = 130;

    /** By name. */
    static final Map<String, Class<?>> COMMANDS = commands();

    @Spec
    private CommandSpec spec;

    @Option(names = {"-h", "--help"}, usageHelp = true, scope = ScopeType.INHERIT, description = "Show this help and exit.")
    private boolean help;

    @Option(names = "--version", versionHelp = true, scope = ScopeType.INHERIT,
            description = "Show the version of this program and of llama.cpp, and exit.")
    private boolean version;

    @Option(names = "--debug", scope = ScopeType.INHERIT, description = "Show stack traces and the native log.")
    private boolean debug;

    private final Shell shell;
    private final Interrupts interrupts;

    Main(Shell shell, Interrupts interrupts) {
        this.shell = shell;
        this.interrupts = interrupts;
    }

    Shell shell() {
        return shell;
    }

    /** The command that runs, for errors about its arguments. */
    CommandLine command() {
        var command = spec.commandLine();
        while (command.getParseResult() != null && command.getParseResult().hasSubcommand()) {
            command = command.getParseResult().subcommand().commandSpec().commandLine();
        }
        return command;
    }

    Interrupts interrupts() {
        return interrupts;
    }

    public static void main(String[] args) {
        Locale.setDefault(Locale.ROOT);     // numbers with points, whatever the user's language
        var interrupts = Interrupts.install();
        int code = FAILURE;
        try {
            code = run(Shell.ofProcess(), interrupts, args);
        } finally {
            interrupts.finished();
        }
        System.exit(code);
    }

    /** Runs one command and returns its exit code. */
    static int run(Shell shell, Interrupts interrupts, String... args) {
        var main = new Main(shell, interrupts);
        var line = new CommandLine(main);
        // describing a command to picocli takes longer than most of what it does: of a known one, that one alone
        var named = Arrays.stream(args).filter(arg -> !arg.startsWith("-")).findFirst().map(COMMANDS::get);
        COMMANDS.forEach((name, command) -> {
            if (named.isEmpty() || named.get() == command) {
                line.addSubcommand(name, command);
                line.getSubcommands().get(name).getCommandSpec().usageMessage().abbreviateSynopsis(true).sortOptions(false);
            }
        });
        line
                .setExpandAtFiles(false)
                .registerConverter(Path.class, Main::path)
                .setAbbreviatedOptionsAllowed(false)
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setOut(new PrintWriter(shell.out(), true))
                .setErr(new PrintWriter(shell.err(), true))
                .setExitCodeExceptionMapper(e -> interrupts.raised() ? INTERRUPTED : e instanceof ParameterException ? USAGE : FAILURE)
                .setExecutionExceptionHandler((e, command, result) -> main.report(e))
                .setParameterExceptionHandler((e, arguments) -> main.usage(e));
        Log.show(Arrays.asList(args).contains("--debug"));     // before native code asks whether anybody listens
        try {
            int code = line.execute(args);
            if (code == OK) {
                shell.flush();      // a text of help that nobody got is a failure, too
            }
            shell.out().flush();
            return code;
        } catch (Shell.OutputClosedException e) {
            return main.report(e);
        } catch (Error e) {     // exceptions have been reported already
            // a class that could not load the native libraries
            return main.report(e instanceof ExceptionInInitializerError && e.getCause() != null ? e.getCause() : e);
        }
    }

    /** @throws TypeConversionException if no file can have that name */
    static Path path(String name) {
        try {
            return Path.of(name);
        } catch (InvalidPathException e) {
            throw new TypeConversionException("'" + name + "' can't be the name of a file: " + e.getReason());
        }
    }

    private static Map<String, Class<?>> commands() {
        var commands = new LinkedHashMap<String, Class<?>>();
        commands.put("complete", CompleteCommand.class);
        commands.put("generate", GenerateCommand.class);
        commands.put("chat", ChatCommand.class);
        commands.put("embed", EmbedCommand.class);
        commands.put("grammar", GrammarCommand.class);
        commands.put("adapters", AdaptersCommand.class);
        commands.put("layers", LayersCommand.class);
        commands.put("learn-threshold", LearnThresholdCommand.class);
        commands.put("inspect", InspectCommand.class);
        commands.put("tokenize", TokenizeCommand.class);
        commands.put("perplexity", PerplexityCommand.class);
        commands.put("quantize", QuantizeCommand.class);
        commands.put("imatrix", ImatrixCommand.class);
        commands.put("sparsify", SparsifyCommand.class);
        commands.put("search-types", SearchTypesCommand.class);
        commands.put("bench", BenchCommand.class);
        commands.put("pull", PullCommand.class);
        commands.put("list", ListCommand.class);
        commands.put("rm", RmCommand.class);
        commands.put("devices", DevicesCommand.class);
        commands.put("rpc-server", RpcServerCommand.class);
        return commands;
    }

    @Override
    public void run() {
        throw new ParameterException(spec.commandLine(), "a command is needed");
    }

    private int usage(ParameterException e) {
        var command = e.getCommandLine();
        shell.out().flush();
        shell.err().println("panama-llama: " + message(e));
        if (!UnmatchedArgumentException.printSuggestions(e, command.getErr())) {
            shell.err().println("Try '" + command.getCommandSpec().qualifiedName() + " --help'.");
        }
        trace(e);
        return USAGE;
    }

    private int report(Throwable e) {
        shell.out().flush();
        if (interrupts.raised()) {
            trace(e);
            return INTERRUPTED;
        }
        if (e instanceof Shell.OutputClosedException closed && closed.isSilent()) {
            return FAILURE;
        }
        if (e instanceof ParameterException usage) {
            return usage(usage);
        }
        shell.err().println("panama-llama: " + message(e));
        switch (e) {
            case InsufficientMemoryException memory -> shell.err().println("  (on the command line: -c for the context, -ctk and -ctv for the"
                    + " cache types" + (memory.place().equals(memory.estimate().host().name()) ? ")" : "; -ngl for layers on devices)"));
            case EmbeddingException embedding -> shell.err().println(EmbedCommand.HINT);
            case ContextFullException full -> shell.err().println("  (on the command line: -c for the context)");
            default -> { }
        }
        trace(e);
        return FAILURE;
    }

    private static String message(Throwable e) {
        return switch (e) {
            case OutOfMemoryError error -> "out of memory in the Java heap: " + error.getMessage();
            case CancellationException cancelled -> "cancelled";
            case UncheckedIOException io when io.getCause().toString().equals(io.getMessage()) -> message(io.getCause());
            case UncheckedIOException io -> io.getMessage() + " (" + LlamaException.reason(io.getCause()) + ")";
            case FileSystemException file when file.getFile() != null -> file.getFile() + ": " + LlamaException.reason(file);
            case IOException io -> "input or output failed: " + LlamaException.reason(io);
            default -> e.getMessage() == null ? e.toString() : e.getMessage();
        };
    }

    private void trace(Throwable e) {
        if (debug) {
            e.printStackTrace(shell.err());
        }
    }
}
