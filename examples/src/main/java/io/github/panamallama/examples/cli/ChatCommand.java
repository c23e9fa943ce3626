package io.github.panamallama.examples.cli;

import io.github.panamallama.Chat;
import io.github.panamallama.ChatOptions;
import io.github.panamallama.GenerationOptions;
import io.github.panamallama.Llama;
import io.github.panamallama.LlamaOptions;
import io.github.panamallama.Reply;
import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.sampling.SamplerOptions;
import java.io.IOException;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.ParentCommand;
import picocli.CommandLine.Spec;

/** A conversation on the terminal; or, with piped input, one turn per line and answers only. */
@Command(
        name = "chat",
        description = {
            "A conversation with a model.",
            "",
            "Type /help for what can be typed. Ctrl-C stops an answer, Ctrl-D leaves. A \\ at the end of a line goes on in the next. "
                    + "With piped input every line is one turn, and only the answers are printed.",
        })
final class ChatCommand implements Callable<Integer> {
    private static final String HELP = """
            /reset   forget the conversation; the system message stays
            /stats   tokens and speed of the last answer, and how full the context is
            /adapter the adapters in force and those that are loaded
            /adapter FILE[:SCALE] ...   go on under these, with the whole conversation; a name with blanks in quotes
            /adapter none   go on without any
            /save FILE   write the conversation to a file, and beside it what is evaluated of it
            /load FILE   go on with a conversation that was saved
            /help    this list
            /exit    leave (also Ctrl-D)
            Ctrl-C stops an answer. A \\ at the end of a line goes on in the next.""";

    /** A word, or several in quotes. */
    private static final Pattern ARGUMENT = Pattern.compile("(\"[^\"]*\"|\\S)+");

    /** The rest of the line is a name, with or without quotes. */
    private static final Pattern FILED = Pattern.compile("/(save|load)\\s+(.+)");

    @ParentCommand
    private Main main;

    @Spec
    private CommandSpec spec;

    @Option(names = "--system", paramLabel = "TEXT", description = "What the model is told before the conversation.")
    private String system;

    @Option(names = "--system-file", paramLabel = "FILE", description = "The same from a file.")
    private Path systemFile;

    @Option(names = {"-n", "--n-predict"}, paramLabel = "N",
            description = "Most tokens of an answer; 0 for as many as fit. Default: ${DEFAULT-VALUE}.")
    private int tokens = 1024;

    @Option(names = "--stop", paramLabel = "TEXT", description = "Stop an answer before this text. May be repeated; \\n is a line's end.")
    private List<String> stops = List.of();

    @Option(names = "--no-reasoning", description = "Ask the model not to reason first, where its template can, and don't show it.")
    private boolean noReasoning;

    @Mixin
    private ModelMixin model;

    @Mixin
    private AdapterMixin adapters;

    @Mixin
    private LayersMixin layers;

    @Mixin
    private BudgetMixin budget;

    @Mixin
    private SamplingMixin sampling;

    @Mixin
    private SelfDraftMixin selfDraft;

    @Mixin
    private EngineMixin engine;

    @Mixin
    private PromptCacheMixin promptCache;

    @Mixin
    private ControlMixin control;

    private volatile Reply current;
    private Reply last;

    @Override
    public Integer call() throws Exception {
        if (tokens < 0) {
            throw new ParameterException(spec.commandLine(), "-n is " + tokens + "; it must be at least 0");
        }
        if (system != null && systemFile != null) {
            throw new ParameterException(spec.commandLine(), "--system and --system-file exclude each other");
        }
        adapters.check(spec.commandLine());
        layers.check(spec.commandLine());
        budget.check(spec.commandLine(), layers, null, selfDraft);
        var told = systemFile != null ? Sources.read(systemFile) : system;
        var generation = promptCache.with(GenerationOptions.defaults())
                .withMaxTokens(tokens)
                .withSampling(sampling.options(spec.commandLine(), SamplerOptions.defaults()))
                .withStop(stops.stream().map(stop -> stop.replace("\\n", "\n")).toList());
        var options = LlamaOptions.defaults()
                .withModel(model.options(main))
                .withEngine(layers.options(spec.commandLine(), engine.options(spec.commandLine()))
                        .withMaxSequences(Math.max(selfDraft.sequences(), budget.sequences())))
                .withGeneration(generation);
        try (var llama = Llama.load(model.path(), control.with(spec.commandLine(), options))) {
            model.report(main, llama.engine());
            generation = generation.withAdapters(adapters.set(spec.commandLine(), llama::adapter))
                    .withPlans(budget.asked() ? null : layers.chooser(spec.commandLine(), llama.model()))
                    .withStrategy(budget.or(selfDraft.or(null, spec.commandLine(), llama.model()), spec.commandLine(), llama.model(),
                            layers));
            try (var chat = llama.chat(chatOptions(told, generation))) {
                main.interrupts().onInterrupt(this::stopAnswer);
                if (!main.shell().interactive()) {
                    return converse(llama, chat, new PipedConversation(main.shell()));
                }
                try (var terminal = new TerminalConversation(this::stopAnswer)) {
                    terminal.note(greeting(llama));
                    return converse(llama, chat, terminal);
                }
            }
        }
    }

    private ChatOptions chatOptions(String told, GenerationOptions generation) {
        var options = ChatOptions.defaults().withGeneration(generation);
        if (told != null) {
            options = options.withSystem(told);
        }
        return noReasoning ? options.withReasoning(false) : options;
    }

    private String greeting(Llama llama) {
        var what = llama.model().description() + ", " + Units.count(llama.model().parameterCount()) + " parameters, context of "
                + llama.engine().contextSize() + " tokens";
        return (model.shipped() ? "The shipped Java model (" + what + "): small, made to try things out; -m takes a better one.\n" : what
                + "\n")
                + "/help for help, Ctrl-C stops an answer, Ctrl-D leaves.";
    }

    /** Ctrl-C while an answer is coming. */
    private void stopAnswer() {
        var reply = current;
        if (reply != null) {
            reply.close();
        }
    }

    /** Where a person's lines come from and the model's words go. */
    interface Conversation {
        /** The next line, or null at the end. */
        String read() throws IOException;

        void answer(String piece);

        void reasoning(String piece);

        /** An answer is complete. */
        void endOfAnswer();

        void note(String message);
    }

    private int converse(Llama llama, Chat chat, Conversation conversation) throws IOException {
        for (String line; !main.interrupts().raised() && (line = conversation.read()) != null; ) {
            if (line.isBlank()) {
                continue;
            }
            if (line.strip().matches("/adapter(\\s.*)?")) {
                adapter(llama, chat, conversation, line.strip().substring("/adapter".length()).strip());
                continue;
            }
            var filed = FILED.matcher(line.strip());
            if (filed.matches()) {
                conversation.note(file(chat, filed.group(1), filed.group(2).replace("\"", "")));
                continue;
            }
            if (line.startsWith("/")) {
                switch (line.strip()) {
                    case "/exit", "/quit" -> {
                        return Main.OK;
                    }
                    case "/reset" -> {
                        chat.reset();
                        last = null;
                        conversation.note("The conversation starts anew.");
                    }
                    case "/stats" -> conversation.note(stats(chat));
                    case "/help" -> conversation.note(HELP);
                    case "/save", "/load" -> conversation.note(line.strip() + " needs a file.");
                    default -> conversation.note("No such command: " + line.strip() + ". /help lists them; a message cannot begin with /.");
                }
                continue;
            }
            try {
                answer(chat, conversation, line);
            } catch (LlamaException e) {
                if (!main.shell().interactive()) {
                    throw e;    // a script must see that its turn failed
                }
                conversation.endOfAnswer();
                conversation.note(e.getMessage());
            }
        }
        return main.interrupts().raised() ? Main.INTERRUPTED : Main.OK;
    }

    /** Saves or loads, and tells what came of it. */
    private String file(Chat chat, String what, String name) {
        try {
            var file = Path.of(name);
            if (what.equals("save")) {
                chat.save(file);
                return "Saved " + turns(chat) + " to " + file + ".";
            }
            var loaded = chat.load(file);
            last = null;
            return "Loaded " + turns(chat) + "; " + (loaded.reason() == null ? loaded.tokens() + " tokens are evaluated already."
                    : "all is evaluated again with the next message, because " + loaded.reason());
        } catch (LlamaException | InvalidPathException e) {
            if (!main.shell().interactive()) {
                throw e;
            }
            return e.getMessage();
        }
    }

    private static String turns(Chat chat) {
        return chat.turns() == 1 ? "1 turn" : chat.turns() + " turns";
    }

    private void adapter(Llama llama, Chat chat, Conversation conversation, String rest) {
        if (!rest.isEmpty()) {
            try {
                var texts = rest.equals("none") ? List.<String>of()
                        : ARGUMENT.matcher(rest).results().map(match -> match.group().replace("\"", "")).toList();
                chat.adapters(AdapterChoice.set(AdapterChoice.parse(texts), llama::adapter));
            } catch (LlamaException | CommandException | IllegalArgumentException e) {
                if (!main.shell().interactive()) {
                    throw e;    // or a script would go on under other adapters than it asked for
                }
                conversation.note(e.getMessage());
            }
        }
        conversation.note(inForce(chat));
        if (rest.isEmpty()) {
            for (var adapter : llama.adapters()) {
                conversation.note(String.format(Locale.ROOT, "loaded: %s, rank %d, %.1f MB, %s", adapter.name(), adapter.maxRank(),
                        adapter.sizeBytes() / 1e6, adapter.path()));
            }
        }
    }

    private static String inForce(Chat chat) {
        return "adapters: " + (chat.adapters().isEmpty() ? "none" : chat.adapters());
    }

    private void answer(Chat chat, Conversation conversation, String line) {
        try (var reply = chat.send(line)) {
            current = reply;
            if (reply.droppedTurns() > 0) {
                conversation.note("The context is full: the oldest " + (reply.droppedTurns() == 1 ? "turn is" : reply.droppedTurns()
                        + " turns are")
                        + " forgotten.");
            }
            reply.forEachPart(part -> {
                switch (part.kind()) {
                    case TEXT -> conversation.answer(part.text());
                    case REASONING -> conversation.reasoning(part.text());
                }
            });
            conversation.endOfAnswer();
            last = reply;
            for (var call : reply.message().toolCalls()) {
                conversation.note("The model asks for a tool, and there is none here: " + call.name() + " " + call.arguments());
            }
            switch (reply.finishReason()) {
                case CANCELLED -> {
                    if (!main.interrupts().raised()) {
                        conversation.note("Stopped.");
                    }
                }
                case CONTEXT_FULL -> conversation.note("The answer ends here: the context is full. /reset, or a larger -c.");
                case LENGTH -> conversation.note("The answer ends here: -n " + tokens + " tokens.");
                default -> { }
            }
        } finally {
            current = null;
        }
    }

    private String stats(Chat chat) {
        var full = String.format(Locale.ROOT, "context: %d of %d tokens; %s, %d forgotten", chat.length(), chat.contextSize(), turns(chat),
                chat.forgottenTurns());
        if (!chat.adapters().isEmpty()) {
            full += "\n" + inForce(chat);
        }
        if (last == null) {
            return full;
        }
        var stats = last.stats();
        return String.format(Locale.ROOT, "prompt: %d tokens, %d of them known already; %d evaluated in %.0f ms, %.1f tokens/s%nanswer: %d tokens in %.0f ms, %.1f tokens/s%n%s",
                stats.promptTokens(), stats.cachedTokens(), stats.promptTokens() - stats.cachedTokens(), stats.promptNanos() / 1e6,
                Json.perSecond(stats.promptTokens() - stats.cachedTokens(), stats.promptNanos()), stats.generatedTokens(),
                stats.generationNanos() / 1e6, Json.perSecond(stats.generatedTokens(), stats.generationNanos()), full);
    }
}
