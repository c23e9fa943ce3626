package io.github.panamallama.runtime.chat;

import java.util.List;
import java.util.Objects;

/**
 * A model's chat template: conversations to prompts, and answers back to content, reasoning and tool calls. Immutable; any thread may use it.
 *
 * <p>Templates are files from unknown sources: they can read nothing but the conversation, and time, text and nesting are limited.
 */
public final class ChatTemplate {
    private final String source;
    private final String bos;
    private final String eos;
    private final JinjaTemplate jinja;
    private final Traits traits;
    private final ReplyFormat format;

    private ChatTemplate(String source, String bos, String eos) {
        this.source = Objects.requireNonNull(source, "source");
        this.bos = Objects.requireNonNullElse(bos, "");
        this.eos = Objects.requireNonNullElse(eos, "");
        jinja = new JinjaTemplate(source);
        traits = Traits.of(this::render);
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
        return new ChatTemplate(source, bos, eos);
    }

    /**
     * The prompt for a conversation.
     *
     * @throws ChatTemplateException where the template fails, refuses the conversation, or exceeds its limits
     */
    public RenderedPrompt render(List<ChatMessage> messages, PromptOptions options) {
        return new RenderedPrompt(text(messages, options), format, options.tools());
    }

    /** The prompt for a conversation, with the default options. */
    public RenderedPrompt render(List<ChatMessage> messages) {
        return render(messages, PromptOptions.defaults());
    }

    /** The Jinja source. */
    public String source() {
        return source;
    }

    /** Whether the template shows tools to the model; without, tools given to it are ignored. */
    public boolean supportsTools() {
        return traits.tools();
    }

    private String render(List<ChatMessage> messages, PromptOptions options, Traits traits) {
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
