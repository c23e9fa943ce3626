package io.github.panamallama.runtime.chat;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.llama_chat_message;
import io.github.panamallama.runtime.natives.NativeError;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.List;

/**
 * One of llama.cpp's built-in templates: roles and contents only. It is chosen by name, or by marks that upstream looks for in a Jinja
 * source.
 */
final class BuiltinTemplate {
    static {
        Natives.load();
    }

    private final String nameOrSource;

    private BuiltinTemplate(String nameOrSource) {
        this.nameOrSource = nameOrSource;
    }

    /** The built-in template of that name or for that source; null where upstream knows none. */
    static BuiltinTemplate of(String nameOrSource) {
        if (nameOrSource.indexOf('\0') >= 0) {
            return null;
        }
        var template = new BuiltinTemplate(nameOrSource);
        return template.apply(List.of(ChatMessage.user("?")), true) == null ? null : template;
    }

    String render(List<ChatMessage> messages, boolean generationPrompt) {
        for (var m : messages) {
            if (m.content().indexOf('\0') >= 0 || m.role().indexOf('\0') >= 0) {
                throw new ChatTemplateException("a message holds the character U+0000, which built-in templates can't take", 0);
            }
        }
        String text = apply(messages, generationPrompt);
        if (text == null) {
            throw new ChatTemplateException("the built-in template refuses this conversation", 0);
        }
        return text;
    }

    private String apply(List<ChatMessage> messages, boolean generationPrompt) {
        try (var arena = Arena.ofConfined()) {
            var chat = llama_chat_message.allocateArray(Math.max(1, messages.size()), arena);
            long bytes = 256;
            for (int i = 0; i < messages.size(); i++) {
                var message = llama_chat_message.asSlice(chat, i);
                var content = arena.allocateFrom(messages.get(i).content());
                llama_chat_message.role(message, arena.allocateFrom(messages.get(i).role()));
                llama_chat_message.content(message, content);
                bytes += content.byteSize() + messages.get(i).role().length() + 64;
            }
            var template = arena.allocateFrom(nameOrSource);
            var error = new NativeError();
            // the first length is a guess; the function says what it needs
            for (int round = 0; round < 2; round++) {
                if (bytes > Integer.MAX_VALUE) {
                    throw new ChatTemplateException("the conversation is too long: " + bytes + " bytes", 0);
                }
                MemorySegment out = arena.allocate(bytes);
                int n = LlamaH.pl_chat_apply_template(template, chat, messages.size(), generationPrompt, out, (int) bytes, error.segment());
                error.check("applying a built-in chat template");
                if (n < 0) {
                    return null;
                }
                if (n <= bytes) {
                    return new String(out.asSlice(0, n).toArray(java.lang.foreign.ValueLayout.JAVA_BYTE), StandardCharsets.UTF_8);
                }
                bytes = n;
            }
            throw new ChatTemplateException("the built-in template changed its mind about its length", 0);
        }
    }
}
