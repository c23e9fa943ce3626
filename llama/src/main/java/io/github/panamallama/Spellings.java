package io.github.panamallama;

import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.runtime.chat.ChatMessage;
import io.github.panamallama.runtime.chat.ToolCall;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/**
 * Keeps what a message spells out from steering the model. A chat template writes control tokens as text, so that in its prompt those of a
 * message would be taken for the template's. They are put between marks before the template sees them, and tokenized as text after it.
 * Immutable.
 */
final class Spellings {
    // characters that Unicode reserves for use within a program
    private static final char BEGIN = '\uFDD0';
    private static final char END = '\uFDD1';
    private static final char REPLACEMENT = '\uFFFD';

    /** By their first character, the longest first. */
    private final Map<Character, List<String>> spellings = new HashMap<>();

    /** @param spellings as {@link Vocabulary#specialSpellings} gives them */
    Spellings(List<String> spellings) {
        spellings.forEach(text -> this.spellings.computeIfAbsent(text.charAt(0), first -> new ArrayList<>()).add(text));
    }

    /** Messages for a template. The system's and the developer's are the program's own, and stay as they are. */
    List<ChatMessage> mark(List<ChatMessage> messages) {
        return messages.stream().map(message -> message.role().equals("system") || message.role().equals("developer") ? message
                : new ChatMessage(message.role(), mark(message.content()), mark(message.reasoning()),
                        message.toolCalls().stream().map(call -> new ToolCall(call.id(), call.name(), mark(call.arguments()))).toList(),
                        message.toolCallId(), message.name())).toList();
    }

    /** The text with marks around each run of spellings. */
    private String mark(String text) {
        var marked = new StringBuilder(text.length() + 2);
        boolean open = false;
        int end = 0;        // of the run that is open
        for (int i = 0; i < text.length(); i++) {
            int length = longest(text, i);
            if (open && i == end && length == 0) {
                marked.append(END);
                open = false;
            }
            if (length > 0) {
                if (!open) {
                    marked.append(BEGIN);
                    open = true;
                }
                end = Math.max(end, i + length);
            }
            char c = text.charAt(i);
            marked.append(c == BEGIN || c == END ? REPLACEMENT : c);
        }
        return (open ? marked.append(END) : marked).toString();
    }

    private int longest(String text, int at) {
        for (var spelling : spellings.getOrDefault(text.charAt(at), List.of())) {
            if (text.startsWith(spelling, at)) {
                return spelling.length();
            }
        }
        return 0;
    }

    /** The tokens of a template's prompt, whose spellings are control tokens but where {@link #mark} has marked them. */
    static int[] tokens(Vocabulary vocabulary, String prompt) {
        int begin = prompt.indexOf(BEGIN);
        if (begin < 0 && prompt.indexOf(END) < 0) {
            return vocabulary.tokenize(prompt, false, true);
        }
        var spellings = new Spellings(vocabulary.specialSpellings());
        var tokens = IntStream.builder();
        int done = 0;
        for (; begin >= 0; begin = prompt.indexOf(BEGIN, begin + 1)) {
            int end = prompt.indexOf(END, begin);
            // a template may have cut a message between its marks
            if (end >= 0 && spellings.mark(prompt.substring(begin + 1, end)).equals(prompt.substring(begin, end + 1))) {
                add(vocabulary, prompt.substring(done, begin), true, tokens);
                add(vocabulary, prompt.substring(begin, end), false, tokens);
                done = end + 1;
            }
        }
        add(vocabulary, prompt.substring(done), true, tokens);
        return tokens.build().toArray();
    }

    private static void add(Vocabulary vocabulary, String text, boolean special, IntStream.Builder tokens) {
        var plain = text.replace(String.valueOf(BEGIN), "").replace(String.valueOf(END), "");
        if (!plain.isEmpty()) {
            for (int token : vocabulary.tokenize(plain, false, special)) {
                tokens.add(token);
            }
        }
    }
}
