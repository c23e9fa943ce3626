package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.Model;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Objects;

/**
 * A model's chat template: conversations to prompts, and answers back to content, reasoning and tool calls. Immutable; any thread may use
 * it.
 *
 * <p>Templates are files from unknown sources: they can read nothing but the conversation, and time, text and nesting are limited.
 */
public final class ChatTemplate {
    private static final System.Logger LOG = System.getLogger("panamallama.chat");

    private final String source;
    private final String bos;
    private final String eos;
    /** Either this or the built-in template renders. */
    private final JinjaTemplate jinja;
    private final BuiltinTemplate builtin;
    private final Traits traits;
    private final ReplyFormat format;

    private ChatTemplate(String source, String bos, String eos, JinjaTemplate jinja, BuiltinTemplate builtin) {
        this.source = source;
        this.bos = Objects.requireNonNullElse(bos, "");
        this.eos = Objects.requireNonNullElse(eos, "");
        this.jinja = jinja;
        this.builtin = builtin;
        traits = jinja == null ? Traits.BUILTIN : Traits.of(this::render);
        format = ReplyFormat.of(source, (messages, options) -> render(messages, options, traits));
    }

    /**
     * A template from its Jinja source.
     *
     * @param bos text of the beginning-of-sequence token; "" or null where the vocabulary has none
     * @param eos text of the end-of-sequence token; likewise
     * @throws ChatTemplateException where the source can't be parsed
     */
    public static ChatTemplate of(String source, String bos, String eos) {
        return new ChatTemplate(Objects.requireNonNull(source, "source"), bos, eos, new JinjaTemplate(source), null);
    }

    /**
     * The template of a model, as {@link #ofModelFile} takes it.
     *
     * @throws ChatTemplateException where the source can't be parsed and no built-in template fits
     */
    public static ChatTemplate of(Model model) {
        var vocabulary = model.vocabulary();
        String bos = vocabulary.bos() < 0 ? "" : new String(vocabulary.bytes(vocabulary.bos()), StandardCharsets.UTF_8);
        String eos = vocabulary.eos() < 0 ? "" : new String(vocabulary.bytes(vocabulary.eos()), StandardCharsets.UTF_8);
        return ofModelFile(model.chatTemplateSource(null).orElse(null), bos, eos);
    }

    /**
     * One of llama.cpp's built-in templates: roles and contents only, no tools.
     *
     * @param name such as {@code chatml}, {@code llama3}, {@code gemma}
     * @throws ChatTemplateException where there is none of that name
     */
    public static ChatTemplate builtin(String name) {
        var builtin = BuiltinTemplate.of(name);
        if (builtin == null) {
            throw new ChatTemplateException("there is no built-in template '" + name + "'", 0);
        }
        return new ChatTemplate("", "", "", null, builtin);
    }

    /**
     * The template of a model's file: its Jinja source; where that can't be parsed, the built-in template that llama.cpp takes for it;
     * where the file has none, {@code chatml}. The log says when it is not the model's own.
     *
     * @param source the source in the model's metadata; null where it has none
     * @throws ChatTemplateException where the source can't be parsed and no built-in template fits
     */
    public static ChatTemplate ofModelFile(String source, String bos, String eos) {
        if (source == null || source.isBlank()) {
            LOG.log(System.Logger.Level.WARNING, "the model has no chat template; using chatml");
            return builtin("chatml");
        }
        try {
            return of(source, bos, eos);
        } catch (ChatTemplateException e) {
            var builtin = BuiltinTemplate.of(source);
            if (builtin == null) {
                throw e;
            }
            LOG.log(System.Logger.Level.WARNING, "the chat template of the model could not be parsed, using the built-in one that fits it: {0}",
                    e.getMessage());
            return new ChatTemplate(source, bos, eos, null, builtin);
        }
    }

    /**
     * The prompt for a conversation.
     *
     * @throws ChatTemplateException where the template fails, refuses the conversation, or exceeds its limits
     */
    public RenderedPrompt render(List<ChatMessage> messages, PromptOptions options) {
        return new RenderedPrompt(text(messages, options), format, options.tools(), bos);
    }

    /** The prompt for a conversation, with the default options. */
    public RenderedPrompt render(List<ChatMessage> messages) {
        return render(messages, PromptOptions.defaults());
    }

    /** The Jinja source; "" for a built-in template. */
    public String source() {
        return source;
    }

    /** Whether the template shows tools to the model; without, tools given to it are ignored. */
    public boolean supportsTools() {
        return traits.tools();
    }

    private String render(List<ChatMessage> messages, PromptOptions options, Traits traits) {
        if (builtin != null) {
            var plain = messages.stream().map(m -> m.role().equals("tool") ? new ChatMessage("user", m.content()) : m).toList();
            return builtin.render(plain, options.generationPrompt());
        }
        // only harmony templates know a developer role of its own
        var msgs = traits.messages(messages, source.contains("<|channel|>"));
        long size = source.length();
        for (var m : messages) {
            size += m.content().length() + m.reasoning().length();
            for (var c : m.toolCalls()) {
                size += c.arguments().length();
            }
        }
        for (var t : options.tools()) {
            size += t.parameters().toString().length() + t.description().length();
        }
        return jinja.render(Traits.variables(msgs, options, bos, eos), options.clock(), size);
    }

    String text(List<ChatMessage> messages, PromptOptions options) {
        return render(messages, options, traits);
    }

    ReplyFormat format() {
        return format;
    }

    Traits traits() {
        return traits;
    }
}
