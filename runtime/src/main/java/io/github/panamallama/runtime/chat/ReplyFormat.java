package io.github.panamallama.runtime.chat;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * How a template writes an assistant's turn, found by rendering turns whose parts are known and reading what stands around them. What a
 * model was trained to write is what its template writes, so unknown templates need no code of their own.
 *
 * @param reasoningStart marker before the reasoning; "" where the turn just begins with it
 * @param reasoningEnd marker after the reasoning; "" where the template has no reasoning
 * @param contentStart marker before the content, mostly ""
 * @param contentEnd marker after the content, mostly ""
 * @param turnEnd marker that ends the turn; "" where it is not clear
 * @param calls how calls are written; null where the template writes none
 * @param blankStart whether the template itself writes blanks before the content
 * @param blankEnd whether it writes blanks behind
 * @param channels harmony: every message of the turn has a header with its channel and recipient
 */
record ReplyFormat(String reasoningStart, String reasoningEnd, String contentStart, String contentEnd, String turnEnd, Calls calls,
        boolean channels, boolean blankStart, boolean blankEnd) {
    /** Stands in literals for any short text: an index, a key, a name. */
    static final char ANY = '\uE000';
    /** Stands in literals for the id of a call. */
    static final char ID = '\uE001';

    enum Kind {
        /** {@code {"name": ..., "arguments": {...}}}, possibly in an array. */
        JSON,
        /** The name in a tag, the arguments as JSON behind it. */
        TAG_JSON,
        /** The name in a tag, every argument in a tag of its own. */
        TAGGED,
        /** {@code name(key=value, ...)} in an array. */
        PYTHON,
        /** The name in a tag, the arguments in braces with unquoted keys and strings between special quotes. */
        BRACES
    }

    /**
     * @param section what stands before the first call only
     * @param start what stands before every call
     * @param end what stands after every call
     * @param sectionEnd what stands after the last call only
     * @param separator what stands between two calls
     * @param nameKey JSON: key of the name; null where the name is itself the key of the arguments
     * @param wrapperKey JSON: key of an object around name and arguments; null for none
     * @param nameEnd what stands between name and arguments
     * @param keyEnd TAGGED: what stands between key and value; {@link #ANY} where it depends on the value's type
     * @param stringType TAGGED: what ANY in keyEnd is for a string; null where keyEnd is the same for all
     * @param valueEnd TAGGED: what ends a value; ANY stands for the key
     */
    record Calls(Kind kind, String section, String start, String end, String sectionEnd, String separator, String nameKey,
            String argumentsKey, String idKey,
            String wrapperKey, String nameEnd, String keyStart, String keyEnd, String stringType, String valueEnd) {
        /** What a call begins with, as far as it is fixed. */
        String opening() {
            return (section + start).strip();
        }
    }

    /** MiniMax-M3 puts this before every tag; parsers leave it out. */
    static final String NOISE = "]<]minimax[>[";

    private static final String USER = "Probe_user";
    private static final String CONTENT = "Qcontent";
    private static final String REASONING = "Qreasoning";
    private static final Tool FIRST = Traits.PROBE_TOOL;
    private static final Tool SECOND = Tool.of("second_tool", "Probes more",
            "{\"type\":\"object\",\"properties\":{\"second_key\":{\"type\":\"string\",\"description\":\"A key\"}},\"required\":[\"second_key\"]}");
    private static final String ID1 = "Qid000001";
    private static final String ID2 = "Qid000002";
    private static final ToolCall CALL1 = new ToolCall(ID1, "probe_tool", "{\"probe_key\": \"Qvalue\", \"probe_other\": 4711}");
    private static final ToolCall CALL2 = new ToolCall(ID2, "second_tool", "{\"second_key\": \"Qsecond\"}");

    static ReplyFormat of(String source, java.util.function.BiFunction<List<ChatMessage>, PromptOptions, String> render) {
        return new Probe(source, render).format();
    }

    /** The start of the marker that position i of the text stands in, or i. */
    static int boundary(String s, int i) {
        int open = Math.max(s.lastIndexOf('<', i - 1), s.lastIndexOf('[', i - 1));
        if (open < 0 || i - open > 60) {
            return i;
        }
        char close = s.charAt(open) == '<' ? '>' : ']';
        int end = s.indexOf(close, open);
        boolean inside = end >= i && end - open < 80 && s.substring(open, end).indexOf('\n') < 0;
        return inside ? open : i;
    }

    static int commonPrefix(String a, String b) {
        int i = 0;
        while (i < a.length() && i < b.length() && a.charAt(i) == b.charAt(i)) {
            i++;
        }
        return i == a.length() && i == b.length() ? i : Math.min(boundary(a, i), boundary(b, i));
    }

    static int commonSuffix(String a, String b) {
        int i = 0;
        while (i < a.length() && i < b.length() && a.charAt(a.length() - 1 - i) == b.charAt(b.length() - 1 - i)) {
            i++;
        }
        // a suffix that starts inside a marker begins behind it
        while (i > 0 && (boundary(a, a.length() - i) < a.length() - i || boundary(b, b.length() - i) < b.length() - i)) {
            i--;
        }
        return i;
    }

    private static final class Probe {
        private final String source;
        private final java.util.function.BiFunction<List<ChatMessage>, PromptOptions, String> render;

        Probe(String source, java.util.function.BiFunction<List<ChatMessage>, PromptOptions, String> render) {
            this.source = source;
            this.render = render;
        }

        /** What follows the user's text; null where the template refuses. */
        private String sample(String content, String reasoning, List<ToolCall> calls, boolean answer, Boolean thinking, boolean tools) {
            var options = PromptOptions.defaults().withClock(Traits.PROBE_CLOCK).withGenerationPrompt(!answer).withThinking(thinking);
            if (tools) {
                options = options.withTools(FIRST, SECOND);
            }
            var messages = new ArrayList<>(List.of(ChatMessage.user(USER)));
            if (answer) {
                messages.add(new ChatMessage("assistant", content, reasoning, calls, "", ""));
            }
            try {
                String out = render.apply(messages, options);
                int user = out.indexOf(USER);
                return user < 0 ? null : out.substring(user + USER.length());
            } catch (ChatTemplateException e) {
                return null;
            }
        }

        private static boolean has(String s, String... parts) {
            return s != null && java.util.Arrays.stream(parts).allMatch(s::contains);
        }

        ReplyFormat format() {
            if (source.contains("<|channel|>") && source.contains("<|message|>")) {
                return new ReplyFormat("", "", "", "", "", null, true, false, false);
            }
            String plain = sample(CONTENT, "", List.of(), true, null, false);
            if (!has(plain, CONTENT)) {
                plain = sample(CONTENT, "", List.of(), true, null, true);
            }
            if (!has(plain, CONTENT)) {
                return new ReplyFormat("", "", "", "", "", null, false, false, false);
            }
            String before = plain.substring(0, plain.indexOf(CONTENT));
            String after = plain.substring(plain.indexOf(CONTENT) + CONTENT.length());

            // the header of the turn is what prompts and turns share
            int header = 0;
            boolean blankStart = false;
            for (var thinking : new Boolean[] {null, true, false}) {
                String prompt = sample("", "", List.of(), false, thinking, false);
                if (prompt != null) {
                    int same = commonPrefix(before, prompt);
                    blankStart |= same < before.length() && before.substring(same).isBlank();
                    header = Math.max(header, same);
                }
            }

            String start = "";
            String end = "";
            String rest = "";
            String both = sample(CONTENT, REASONING, List.of(CALL1, CALL2), true, true, true);
            String bothOne = sample(CONTENT, REASONING, List.of(CALL1), true, true, true);
            String callsOnly = sample("", REASONING, List.of(CALL1), true, true, true);
            String thought = sample(CONTENT, REASONING, List.of(), true, true, false);
            String withCalls = has(both, REASONING) ? both : has(bothOne, REASONING) ? bothOne : callsOnly;
            if (!has(thought, REASONING, CONTENT) || thought.indexOf(CONTENT) < thought.indexOf(REASONING)) {
                thought = has(withCalls, REASONING) ? withCalls : null;
            }
            if (thought != null) {
                int at = thought.indexOf(REASONING);
                String lead = thought.substring(0, at);
                String tail = thought.substring(at + REASONING.length());
                int content = tail.indexOf(CONTENT);
                int name = tail.indexOf("probe_tool");
                boolean direct = content < 0 || name >= 0 && name < content;
                String between = tail.substring(0, direct ? Math.max(name, 0) : content);
                String other = has(callsOnly, REASONING) ? callsOnly.substring(callsOnly.indexOf(REASONING) + REASONING.length()) : null;
                int same = other == null ? 0 : wordBoundary(between, commonPrefix(between, other));
                if (direct || other == null && markers(between) > 1) {
                    same = between.length() - between.stripLeading().length() + firstMarker(between).length();
                } else if (same == 0 || between.substring(0, same).isBlank()) {
                    same = between.length();
                }
                end = between.substring(0, same).strip();
                rest = direct ? "" : between.substring(same);
                start = lead.substring(Math.min(header, lead.length())).strip();
                if (start.isEmpty() || lead.length() < header) {
                    start = mirror(end, lead.strip());
                }
            } else if (source.contains("</think>")) {
                start = "<think>";
                end = "</think>";
            }

            String contentStart = before.substring(header);
            int closed = end.isEmpty() ? -1 : contentStart.lastIndexOf(end);
            if (closed >= 0) {
                contentStart = contentStart.substring(closed + end.length());
            }
            contentStart = contentStart.strip();
            if (!start.isEmpty() && contentStart.startsWith(start) || !end.isEmpty() && contentStart.endsWith(end)
                    || end.endsWith(contentStart)) {
                contentStart = "";
            }
            if (contentStart.isEmpty() && rest.strip().startsWith("<")) {
                contentStart = rest.strip();
            }

            var shape = calls(before, end);
            String turnEnd;
            String contentEnd;
            Calls calls = null;
            if (shape != null) {
                int same = commonSuffix(after, shape.tail);
                turnEnd = after.substring(after.length() - same);
                contentEnd = after.substring(0, after.length() - same).strip();
                String tail = shape.tail.substring(0, shape.tail.length() - same);
                if (!turnEnd.isBlank() && tail.contains(turnEnd.strip())) {
                    tail = tail.substring(0, tail.indexOf(turnEnd.strip()));
                }
                calls = shape.calls(tail);
                if (contentStart.isEmpty() && !contentEnd.isEmpty() && turnEnd.isBlank()) {
                    turnEnd = contentEnd;
                    contentEnd = "";
                }
            } else {
                contentEnd = contentStart.isEmpty() ? "" : firstMarker(after);
                turnEnd = after.stripLeading().substring(contentEnd.length());
            }
            if (calls == null && source.contains("<|tool_call|>")) {
                calls = new Calls(Kind.JSON, "<|tool_call|>[", "", "", "]", ",", "name", "arguments", "id", null, "", "", "", null, "");
            } else if (calls == null && source.contains("<tool_call>")) {
                calls = new Calls(Kind.JSON, "", "<tool_call>\n", "\n</tool_call>", "", "", "name", "arguments", "id", null, "", "", "",
                        null, "");
            } else if (calls == null && (source.contains("tool_call_start") || source.contains("tool_list_start")
                    || source.contains("List of tools: ["))) {
                calls = new Calls(Kind.PYTHON, "<|tool_call_start|>[", "", "", "]<|tool_call_end|>", ",", null, null, null, null, "", "",
                        "", null, "");
            }
            if (source.contains(">>>all")) {
                contentStart = ">>>all";
                contentEnd = "";
            }
            if (source.contains("<response></response>")) {
                // told to the model in words only
                contentStart = "<response>";
                contentEnd = "</response>";
            }
            String last = firstMarker(turnEnd);
            if ((start + end + contentStart + contentEnd + (calls == null ? "" : calls.toString())).contains(last)
                    && !(calls != null && calls.opening().startsWith(last))) {
                last = "";
            }
            return new ReplyFormat(start, end, contentStart, contentEnd, last, calls, false, blankStart,
                    !after.equals(after.stripLeading()));
        }

        /** The last place up to i where a word or marker ends. */
        private static int wordBoundary(String s, int i) {
            if (i < s.length() && (s.charAt(i) == '<' || s.charAt(i) == '[' || Character.isWhitespace(s.charAt(i)))) {
                return i;
            }
            while (i > 0 && i < s.length() && s.charAt(i - 1) != '>' && s.charAt(i - 1) != ']'
                    && !Character.isWhitespace(s.charAt(i - 1))) {
                i--;
            }
            return i;
        }

        private static int markers(String s) {
            int n = 0;
            for (String rest = s.strip(); !firstMarker(rest).isEmpty(); n++) {
                rest = rest.stripLeading().substring(firstMarker(rest).length());
            }
            return n;
        }

        /** The opening marker that belongs to a closing one, if the text ends with it. */
        private static String mirror(String end, String lead) {
            for (int cut = end.length(); cut > 0; cut = Math.max(end.lastIndexOf('>', cut - 2), end.lastIndexOf(']', cut - 2)) + 1) {
                String prefix = end.substring(0, cut);
                for (var pair : new String[][] {{"/", ""}, {"END", "START"}, {"end", "start"}, {"end", "begin"}, {"close", "open"}}) {
                    String start = prefix.replace(pair[0], pair[1]);
                    if (!start.equals(prefix) && lead.endsWith(start)) {
                        return start;
                    }
                }
            }
            return "";
        }

        /** A turn with calls, cut at its sentinels, the end of the turn still on its tail. */
        private record Shape(Kind kind, String lead, String between, String tail, String nameKey, String argumentsKey, String idKey,
                String wrapperKey, String nameEnd, String keyStart, String keyEnd, String stringType, String valueEnd, boolean array) {
            Calls calls(String tail) {
                String start = lead;
                String section = "";
                String end = tail;
                String sectionEnd = "";
                String separator = "";
                if (between != null) {
                    int same = commonPrefix(between, tail);
                    end = between.substring(0, same);
                    String again = between.substring(same);
                    int opening = commonSuffix(lead, again);
                    if (array && again.strip().equals(",")) {
                        opening = 0;
                    }
                    start = lead.substring(lead.length() - opening);
                    section = lead.substring(0, lead.length() - opening);
                    sectionEnd = tail.substring(same);
                    separator = again.substring(0, again.length() - opening);
                } else if (array) {
                    section = lead;
                    start = "";
                    sectionEnd = tail;
                    end = "";
                }
                return new Calls(kind, section, start, end, sectionEnd, separator, nameKey, argumentsKey, idKey, wrapperKey, nameEnd,
                        keyStart, keyEnd,
                        stringType, valueEnd);
            }
        }

        private Shape calls(String header, String reasoningEnd) {
            boolean two = true;
            String s = null;
            int from = -1;
            for (var calls : List.of(List.of(CALL1, CALL2), List.of(CALL1))) {
                two = calls.size() == 2;
                String[] wanted = two ? new String[] {"probe_tool", "Qvalue", "second_tool", "Qsecond"}
                        : new String[] {"probe_tool", "Qvalue"};
                String withContent = sample(CONTENT, "", calls, true, null, true);
                String alone = sample("", "", calls, true, null, true);
                int fromContent = -1;
                if (has(withContent, wanted) && has(withContent, CONTENT)
                        && withContent.indexOf(CONTENT) < withContent.indexOf("probe_tool")) {
                    fromContent = withContent.indexOf(CONTENT) + CONTENT.length();
                }
                int fromAlone = -1;
                if (has(alone, wanted)) {
                    fromAlone = wordBoundary(alone, commonPrefix(alone, header));
                    int closed = reasoningEnd.isEmpty() ? -1 : alone.indexOf(reasoningEnd, fromAlone);
                    if (closed >= 0 && closed < alone.indexOf("probe_tool")) {
                        fromAlone = closed + reasoningEnd.length();
                    }
                }
                // some templates put content and calls into turns of their own
                if (fromContent >= 0 && fromAlone >= 0
                        && alone.indexOf("probe_tool", fromAlone) - fromAlone + 8 < withContent.indexOf("probe_tool") - fromContent) {
                    fromContent = -1;
                }
                if (fromContent >= 0 || fromAlone >= 0) {
                    s = fromContent >= 0 ? withContent : alone;
                    from = fromContent >= 0 ? fromContent : fromAlone;
                    break;
                }
            }
            if (s == null) {
                return null;
            }
            int key = s.indexOf("probe_key", from);
            if (key < 0) {
                return null;
            }
            int name = s.lastIndexOf("probe_tool", key);
            if (name < from) {
                name = s.indexOf("probe_tool", from);
            }
            if (name < 0) {
                return null;
            }
            for (int i = from; i < Math.min(name, key); i++) {
                if (s.charAt(i) == '{' || s.charAt(i) == '[') {
                    int end = Scan.jsonEnd(s, i);
                    var tree = end < 0 ? null : Json.tryParse(s.substring(i, end));
                    if (tree != null && end > Math.max(name, key)) {
                        return json(s, from, i, end, tree, two);
                    }
                }
            }
            return tagged(s.replace(ID1, String.valueOf(ID)).replace(ID2, String.valueOf(ID)).replace(NOISE, ""), from, two);
        }

        private Shape json(String s, int from, int start, int end, JsonNode tree, boolean two) {
            boolean array = tree.isArray();
            JsonNode call = array ? tree.get(0) : tree;
            String between = null;
            String tail = s.substring(end);
            if (two && array) {
                between = ",";
            } else if (two) {
                int next = s.indexOf("second_tool", end);
                int open = next < 0 ? -1 : s.indexOf('{', end);
                int close = open < 0 ? -1 : Scan.jsonEnd(s, open);
                if (close > next && next > open) {
                    between = s.substring(end, open);
                    tail = s.substring(close);
                }
            }
            String nameKey = null;
            String argumentsKey = null;
            String idKey = null;
            String wrapper = null;
            JsonNode inner = call;
            for (var e : call.properties()) {
                if (e.getValue().isObject() && e.getValue().properties().stream().anyMatch(x -> "probe_tool".equals(x.getValue().stringValue("")))) {
                    wrapper = e.getKey();
                    inner = e.getValue();
                }
            }
            for (Map.Entry<String, JsonNode> e : inner.properties()) {
                JsonNode v = e.getValue();
                if (v.isString() && v.stringValue().equals("probe_tool")) {
                    nameKey = e.getKey();
                } else if (v.isObject() && v.has("probe_key") || v.isString() && v.stringValue().contains("probe_key")) {
                    argumentsKey = e.getKey();
                } else if (v.isString() && (v.stringValue().equals(ID1) || e.getKey().contains("id"))) {
                    idKey = e.getKey();
                }
            }
            if (idKey == null && call.get("id") != null) {
                idKey = "id";
            }
            String lead = s.substring(from, start) + (array ? "[" : "");
            return new Shape(Kind.JSON, lead, between, array ? "]" + tail : tail, nameKey, nameKey == null ? null : argumentsKey, idKey,
                    wrapper,
                    "", "", "", null, "", array);
        }

        private Shape tagged(String s, int from, boolean two) {
            int key = s.indexOf("probe_key", from);
            int name = s.lastIndexOf("probe_tool", key);
            int nameEnd = name + "probe_tool".length();
            // where a header names the tool too
            String lead = s.substring(from, name).replace("probe_tool", String.valueOf(ANY));
            if (s.charAt(nameEnd) == '(') {
                int end = Scan.pythonEnd(s, nameEnd);
                String tail = s.substring(Math.max(end, nameEnd));
                int next = tail.indexOf("second_tool");
                if (next >= 0) {
                    int close = Scan.pythonEnd(tail, next + "second_tool".length());
                    return new Shape(Kind.PYTHON, lead, ",", tail.substring(Math.max(close, 0)), null, null, null, null, "", "", "", null,
                            "", true);
                }
                return new Shape(Kind.PYTHON, lead, null, tail, null, null, null, null, "", "", "", null, "", true);
            }
            int brace = s.indexOf('{', nameEnd);
            if (brace >= 0 && brace < key) {
                boolean special = s.startsWith("<|\"|>", s.indexOf("Qvalue") - 5);
                int end = special ? Scan.bracesEnd(s, brace) : Scan.jsonEnd(s, brace);
                if (end > key) {
                    String infix = s.substring(nameEnd, brace);
                    String tail = s.substring(end);
                    String between = null;
                    int second = two ? s.indexOf("second_key", end) : -1;
                    if (second >= 0) {
                        int next = s.lastIndexOf("second_tool", second);
                        int open = s.indexOf('{', next);
                        int close = special ? Scan.bracesEnd(s, open) : Scan.jsonEnd(s, open);
                        if (next > end && close > second) {
                            between = s.substring(end, next).replace("second_tool", String.valueOf(ANY));
                            infix = general(infix, s.substring(next + "second_tool".length(), open));
                            tail = s.substring(close);
                        }
                    }
                    return new Shape(special ? Kind.BRACES : Kind.TAG_JSON, lead, between, tail, null, null, null, null, infix, "", "",
                            null, "",
                            false);
                }
            }
            int value = s.indexOf("Qvalue", key);
            int other = s.indexOf("probe_other", value);
            int number = s.indexOf("4711", Math.max(other, 0));
            if (value < 0 || other < 0 || number < 0) {
                return null;
            }
            String x1 = s.substring(nameEnd, key);
            String x2 = s.substring(value + "Qvalue".length(), other);
            // the closing tag may hold the key
            x2 = x2.replace("probe_key", String.valueOf(ANY));
            String x3 = s.substring(number + 4).replace("probe_other", String.valueOf(ANY));
            int same = commonSuffix(x1, x2);
            String keyStart = x1.substring(x1.length() - same);
            String infix = x1.substring(0, x1.length() - same);
            String valueEnd = x2.substring(0, x2.length() - same);
            int shared = commonPrefix(valueEnd, x3);
            valueEnd = valueEnd.substring(0, shared);
            String tail = x3.substring(shared);
            String textEnd = s.substring(key + "probe_key".length(), value);
            String numberEnd = s.substring(other + "probe_other".length(), number);
            String type = null;
            String keyEnd = textEnd;
            if (!textEnd.equals(numberEnd)) {
                int a = 0;
                while (a < textEnd.length() && a < numberEnd.length() && textEnd.charAt(a) == numberEnd.charAt(a)) {
                    a++;
                }
                int b = 0;
                while (b < textEnd.length() - a && b < numberEnd.length() - a
                        && textEnd.charAt(textEnd.length() - 1 - b) == numberEnd.charAt(numberEnd.length() - 1 - b)) {
                    b++;
                }
                type = textEnd.substring(a, textEnd.length() - b);
                keyEnd = textEnd.substring(0, a) + ANY + textEnd.substring(textEnd.length() - b);
            }
            String between = null;
            int second = two ? tail.indexOf("second_key") : -1;
            if (second >= 0) {
                int next = tail.lastIndexOf("second_tool", second);
                int last = tail.indexOf("Qsecond");
                if (next >= 0 && last > second) {
                    between = tail.substring(0, next).replace("second_tool", String.valueOf(ANY));
                    String secondInfix = tail.substring(next + "second_tool".length(), second);
                    if (secondInfix.endsWith(keyStart)) {
                        infix = general(infix, secondInfix.substring(0, secondInfix.length() - keyStart.length()));
                    }
                    String ending = tail.substring(last + "Qsecond".length()).replace("second_key", String.valueOf(ANY));
                    tail = ending.startsWith(valueEnd) ? ending.substring(valueEnd.length()) : ending;
                }
            }
            return new Shape(Kind.TAGGED, lead, between, tail, null, null, null, null, infix, keyStart, keyEnd, type, valueEnd, false);
        }

        /** Two texts that differ in a number: the number becomes ANY. */
        private static String general(String a, String b) {
            if (a.equals(b) || a.length() != b.length()) {
                return a;
            }
            var out = new StringBuilder();
            for (int i = 0; i < a.length(); i++) {
                out.append(a.charAt(i) == b.charAt(i) ? a.charAt(i) : ANY);
            }
            return out.toString();
        }
    }

    /** The marker that the text begins with, blanks aside: {@code <...>}, {@code [...]}, or its first word. */
    static String firstMarker(String s) {
        s = s.strip();
        if (s.isEmpty()) {
            return "";
        }
        char close = s.charAt(0) == '<' ? '>' : s.charAt(0) == '[' ? ']' : 0;
        int end = close == 0 ? -1 : s.indexOf(close);
        if (end >= 0 && s.substring(0, end).indexOf('\n') < 0) {
            return s.substring(0, end + 1);
        }
        int i = 1;
        while (i < s.length() && !Character.isWhitespace(s.charAt(i)) && s.charAt(i) != '<' && s.charAt(i) != '{') {
            i++;
        }
        return s.substring(0, i);
    }
}
