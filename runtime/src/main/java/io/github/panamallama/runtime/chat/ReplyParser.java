package io.github.panamallama.runtime.chat;

import io.github.panamallama.runtime.chat.ReplyFormat.Calls;
import io.github.panamallama.runtime.chat.ReplyFormat.Kind;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.JsonNode;

/**
 * Takes an answer apart while it is generated. Text comes in any pieces; content and reasoning go out as soon as they can't be the start of
 * a marker, calls when they are complete. The pieces do not matter: the result is the same as for the whole text. What looks like a call
 * and is none stays content, so that no text is lost. One per answer, one thread.
 */
public final class ReplyParser {
    private static final int INCOMPLETE = Scan.INCOMPLETE;
    private static final int WRONG = Scan.WRONG;

    private enum State { START, REASONING, CONTENT, BETWEEN, HEADER, BODY, DONE }

    private final ReplyFormat format;
    private final Calls calls;
    /** Whether a call ends the reasoning without its marker: where the prompt opened it, models forget to close it. */
    private boolean callsEndReasoning;
    private final Map<String, JsonNode> schemas = new HashMap<>();
    private final StringBuilder input = new StringBuilder();
    /** Of the input: what is read no further. */
    private String buffer = "";
    private int pos;
    private State state;
    private boolean last;

    private final StringBuilder content = new StringBuilder();
    private final StringBuilder reasoning = new StringBuilder();
    private final List<ToolCall> found = new ArrayList<>();
    /** Blanks that are dropped if a call or the end of the reasoning follows. */
    private String held = "";
    private boolean skipBlanks;
    private boolean begun;
    /** The content has been closed by its marker: what follows is the template's, until a call or more content begins. */
    private boolean closed;
    private String captured = "";

    private int givenContent;
    private int givenReasoning;
    private int givenCalls;

    /** @param prompt the prompt as rendered; its end says whether the answer begins within the reasoning */
    ReplyParser(ReplyFormat format, List<Tool> tools, String prompt) {
        this.format = format;
        calls = tools.isEmpty() ? null : format.calls();
        for (var t : tools) {
            schemas.put(t.name(), t.parameters().path("properties"));
        }
        String tail = prompt.stripTrailing();
        callsEndReasoning = calls != null && calls.start().endsWith("functions.");
        if (format.channels()) {
            state = State.HEADER;
        } else if (!format.reasoningStart().isEmpty() && tail.endsWith(format.reasoningStart())
                || format.reasoningStart().isEmpty() && !format.reasoningEnd().isEmpty() && !tail.endsWith(format.reasoningEnd())) {
            state = State.REASONING;
            skipBlanks = true;
            callsEndReasoning = true;
        } else {
            state = State.START;
            skipBlanks = format.blankStart();
            // the prompt already wrote what begins a call or the content
            if (calls != null && calls.opening().equals(">>>") && tail.endsWith(">>>")
                    || calls == null && format.contentStart().startsWith(">>>") && tail.endsWith(">>>")) {
                input.append(">>>");
            }
        }
    }

    /** Takes the next piece of the answer. */
    public ReplyDelta push(String text) {
        if (last) {
            throw new IllegalStateException("the answer has been finished; use a parser for every answer");
        }
        input.append(text);
        run();
        return delta();
    }

    /** Ends the answer; what was held back comes out. */
    public ReplyDelta end() {
        if (!last) {
            last = true;
            run();
            if (state != State.REASONING && state != State.DONE && !format.blankEnd() && !closed) {
                content.append(held);
            }
            held = "";
        }
        return delta();
    }

    /** All that has been found so far; after {@link #end()} the whole answer. */
    public ParsedReply reply() {
        return new ParsedReply(content.toString(), reasoning.toString(), found);
    }

    private ReplyDelta delta() {
        if (givenContent == content.length() && givenReasoning == reasoning.length() && givenCalls == found.size()) {
            return ReplyDelta.NOTHING;
        }
        var out = new ReplyDelta(content.substring(givenContent), reasoning.substring(givenReasoning),
                found.subList(givenCalls, found.size()));
        givenContent = content.length();
        givenReasoning = reasoning.length();
        givenCalls = found.size();
        return out;
    }

    private void run() {
        buffer = input.toString();
        if (buffer.contains(ReplyFormat.NOISE)) {
            buffer = buffer.replace(ReplyFormat.NOISE, "");
        }
        // a part of what is left out must not be read
        String carry = "";
        for (int n = ReplyFormat.NOISE.length() - 1; n > 0 && !last && calls != null && calls.kind() == Kind.TAGGED
                && carry.isEmpty(); n--) {
            carry = buffer.endsWith(ReplyFormat.NOISE.substring(0, n)) ? ReplyFormat.NOISE.substring(0, n) : "";
        }
        buffer = buffer.substring(0, buffer.length() - carry.length());
        while (step()) {
            // until more text is needed
        }
        input.setLength(0);
        input.append(buffer, pos, buffer.length()).append(carry);
        pos = 0;
    }

    private boolean step() {
        return switch (state) {
            case START -> start();
            case REASONING -> reasoning();
            case CONTENT -> content();
            case BETWEEN -> between();
            case HEADER -> header();
            case BODY -> body();
            case DONE -> {
                pos = buffer.length();
                yield false;
            }
        };
    }

    // ---- states

    private boolean start() {
        int p = blanks(pos);
        if (p == buffer.length() && !last) {
            return false;
        }
        if (!format.reasoningStart().isEmpty()) {
            int r = match(p, format.reasoningStart());
            if (r >= 0) {
                pos = r;
                skipBlanks = true;
                state = State.REASONING;
                return true;
            }
            if (r == INCOMPLETE && !last) {
                return false;
            }
        }
        if (!format.reasoningEnd().isEmpty()) {
            // some templates close a reasoning that never began
            int r = match(p, format.reasoningEnd());
            if (r == INCOMPLETE && !last) {
                return false;
            }
            if (r >= 0) {
                pos = r;
                skipBlanks = true;
            }
        }
        state = State.CONTENT;
        return true;
    }

    private boolean reasoning() {
        String end = format.reasoningEnd();
        String opening = calls == null ? "" : calls.opening();
        var markers = new ArrayList<String>();
        if (!callsEndReasoning) {
            opening = "";
        }
        for (var m : List.of(end, special(opening) ? lead(opening) : "", special(opening) ? lead(calls.start().strip()) : "",
                special(format.turnEnd()) ? format.turnEnd() : "")) {
            if (!m.isEmpty()) {
                markers.add(ReplyFormat.firstMarker(m));
            }
        }
        for (int i = next(markers, pos); i >= 0; i = next(markers, i + 1)) {
            int r = match(i, end);
            if (r >= 0 || r == INCOMPLETE && last) {
                write(reasoning, i);
                pos = r >= 0 ? r : buffer.length();
                content(true);
                return true;
            }
            boolean wait = r == INCOMPLETE;
            if (special(opening)) {
                // models call tools without closing the reasoning first
                var call = new ToolCall[1];
                for (var literal : openings()) {
                    r = open(i, literal, call);
                    if (r >= 0) {
                        write(reasoning, i);
                        take(r, call[0]);
                        return true;
                    }
                    wait |= r == INCOMPLETE;
                }
            }
            if (special(format.turnEnd())) {
                r = match(i, format.turnEnd());
                if (r >= 0) {
                    write(reasoning, i);
                    state = State.DONE;
                    return true;
                }
                wait |= r == INCOMPLETE;
            }
            if (wait && !last) {
                write(reasoning, i);
                return false;
            }
        }
        write(reasoning, buffer.length() - (last ? 0 : partial(markers)));
        return false;
    }

    private void content(boolean skip) {
        held = "";
        skipBlanks = skip;
        state = State.CONTENT;
    }

    private int next(List<String> markers, int from) {
        int at = -1;
        for (var m : markers) {
            int i = buffer.indexOf(m, from);
            at = i >= 0 && (at < 0 || i < at) ? i : at;
        }
        return at;
    }

    /** Writes text up to a position, holding back the blanks at its end. */
    private void write(StringBuilder out, int to) {
        String text = held + buffer.substring(pos, to);
        pos = to;
        if (skipBlanks) {
            text = text.stripLeading();
            skipBlanks = text.isEmpty();
        }
        String kept = text.stripTrailing();
        held = text.substring(kept.length());
        if (out == content && closed) {
            held = "";
            return;
        }
        out.append(kept);
        if (out == content && !kept.isEmpty()) {
            begun = true;
        }
    }

    private boolean content() {
        if (!begun) {
            int p = blanks(pos);
            if (p == buffer.length() && !last) {
                return false;
            }
            if (!format.contentStart().isEmpty()) {
                int r = match(p, format.contentStart());
                if (r == INCOMPLETE && !last) {
                    return false;
                }
                if (r >= 0) {
                    pos = r;
                    held = "";
                    skipBlanks = true;
                    begun = true;
                    return true;
                }
            }
            if (calls != null && calls.opening().isEmpty()) {
                int r = bare(p);
                if (r == INCOMPLETE && !last) {
                    return false;
                }
                if (r >= 0) {
                    return true;
                }
            }
        }
        var markers = new ArrayList<String>();
        String opening = calls == null ? "" : calls.opening();
        if (!opening.isEmpty()) {
            for (var o : openings()) {
                markers.add(lead(o));
            }
        }
        for (var m : List.of(format.contentEnd(), format.turnEnd(), format.contentStart())) {
            if (!m.isEmpty()) {
                markers.add(ReplyFormat.firstMarker(m));
            }
        }
        String done = calls == null || found.isEmpty() ? "" : calls.sectionEnd().strip();
        if (special(done)) {
            markers.add(ReplyFormat.firstMarker(done));
        }
        if (special(format.reasoningStart())) {
            markers.add(ReplyFormat.firstMarker(format.reasoningStart()));
        }
        int from = pos;
        while (true) {
            int at = next(markers, from);
            if (at < 0) {
                write(content, Math.max(from, buffer.length() - (last ? 0 : partial(markers))));
                return false;
            }
            Boolean consumed = marker(at, opening);
            if (consumed != null) {
                return consumed;
            }
            from = at + 1;
        }
    }

    /** What stands at a marker: TRUE when consumed, FALSE when more text is needed, null when it is only text. */
    private Boolean marker(int at, String opening) {
        boolean wait = false;
        if (!opening.isEmpty()) {
            var call = new ToolCall[1];
            for (var literal : openings()) {
                int r = open(at, literal, call);
                if (r >= 0) {
                    write(content, at);
                    take(r, call[0]);
                    return true;
                }
                wait |= r == INCOMPLETE;
            }
        }
        if (wait && !last) {
            write(content, at);
            return false;
        }
        // content that the template writes behind the calls may stand before the end of their section
        String done = calls == null || found.isEmpty() || !special(calls.sectionEnd().strip()) ? "" : calls.sectionEnd().strip();
        for (var m : List.of(format.contentStart(), format.contentEnd(), format.turnEnd(), done, format.reasoningStart())) {
            if (m.isEmpty() || m.equals(format.reasoningStart()) && !special(m)) {
                continue;
            }
            int r = match(at, m);
            if (r == INCOMPLETE && !last) {
                write(content, at);
                return false;
            }
            if (r < 0) {
                continue;
            }
            write(content, at);
            pos = r;
            if (m.equals(format.contentEnd()) || m.equals(format.contentStart())) {
                content.append(m.equals(format.contentEnd()) ? held : "");
                closed = m.equals(format.contentEnd());
                held = "";
                skipBlanks = true;
            } else if (m.equals(format.turnEnd())) {
                held = "";
                state = State.DONE;
            } else if (m.equals(done)) {
                skipBlanks = true;
            } else {
                held = "";
                skipBlanks = true;
                state = State.REASONING;
            }
            return true;
        }
        return null;
    }

    /** What a call may begin with: all of it, or without the section's or the call's first marker, which models leave out. */
    private List<String> openings() {
        var out = new ArrayList<String>();
        out.add(calls.opening());
        String start = calls.start().strip();
        if (special(start) && !calls.section().isBlank()) {
            out.add(start);
        }
        String short1 = shortened();
        if (!short1.isEmpty()) {
            out.add(short1);
        }
        return out;
    }

    private String shortened() {
        String start = calls.start().strip();
        if (calls.kind() != Kind.TAGGED || !special(start) || start.indexOf(ReplyFormat.ANY) >= 0) {
            return "";
        }
        String rest = start.substring(ReplyFormat.firstMarker(start).length()).strip();
        return rest.length() > 4 && special(rest) ? rest : "";
    }

    private int open(int at, String literal, ToolCall[] out) {
        captured = "";
        int r = match(at, literal);
        return r < 0 ? r : call(r, out);
    }

    /** Markers in brackets are not words that a user might read. */
    private static boolean special(String marker) {
        return marker.startsWith("<") || marker.startsWith("[");
    }

    /** The fixed text that a literal begins with. */
    private static String lead(String literal) {
        int any = literal.indexOf(ReplyFormat.ANY);
        return ReplyFormat.firstMarker(any < 0 ? literal : literal.substring(0, any));
    }

    /** A call without any marker: only where the answer begins with it. */
    private int bare(int p) {
        int tag = match(p, "<|python_tag|>");
        if (tag == INCOMPLETE && p < buffer.length()) {
            return INCOMPLETE;
        }
        int at = tag >= 0 ? blanks(tag) : p;
        if (at < buffer.length() && buffer.charAt(at) != '{') {
            return WRONG;
        }
        var call = new ToolCall[1];
        int r = call(at, call);
        if (r >= 0) {
            take(r, call[0]);
        }
        return r;
    }

    private void take(int end, ToolCall call) {
        pos = end;
        held = "";
        begun = true;
        found.add(call);
        state = State.BETWEEN;
    }

    private boolean between() {
        int p = blanks(pos);
        if (p == buffer.length() && !last) {
            return false;
        }
        int e = calls.end().isBlank() ? p : match(p, calls.end().strip());
        if (e == INCOMPLETE && !last) {
            return false;
        }
        if (e < 0 && !calls.end().isBlank()) {
            e = match(p, ReplyFormat.firstMarker(calls.end()));
        }
        boolean wait = false;
        int q = blanks(e >= 0 ? e : p);
        if (q == buffer.length() && !last) {
            return false;
        }
        if (q < buffer.length() && (buffer.charAt(q) == ',' || buffer.charAt(q) == ';')) {
            q = blanks(q + 1);
            if (q == buffer.length() && !last) {
                return false;
            }
        }
        for (var literal : List.of(calls.separator().strip().equals(",") ? calls.start() : calls.separator() + calls.start(), calls.start(),
                calls.section() + calls.start())) {
            if (literal.isBlank() && calls.kind() != Kind.JSON && calls.kind() != Kind.PYTHON || literal.isBlank()
                    && calls.section().isBlank()) {
                continue;
            }
            captured = "";
            int r = match(q, literal.strip());
            if (r >= 0) {
                var call = new ToolCall[1];
                r = call(r, call);
                if (r >= 0) {
                    take(r, call[0]);
                    return true;
                }
            }
            wait |= r == INCOMPLETE;
        }
        int s = calls.sectionEnd().isBlank() ? q : match(q, calls.sectionEnd().strip());
        wait |= s == INCOMPLETE;
        if (wait && !last && (s < 0 || calls.sectionEnd().isBlank())) {
            return false;
        }
        pos = s >= 0 ? s : s == INCOMPLETE ? buffer.length() : q;
        skipBlanks = true;
        closed = !format.contentEnd().isEmpty();
        state = State.CONTENT;
        return true;
    }

    // ---- harmony

    private static final List<String> ENDS = List.of("<|end|>", "<|return|>", "<|call|>", "<|start|>");
    private String recipient = "";
    private String channel = "";

    private boolean header() {
        int m = buffer.indexOf("<|message|>", pos);
        if (m < 0) {
            if (last) {
                String rest = buffer.substring(pos).replaceFirst("^\\s*<\\|(start|channel).*", "");
                content.append(rest.strip().equals("assistant") ? "" : rest);
                pos = buffer.length();
            }
            return false;
        }
        String header = buffer.substring(pos, m);
        var to = java.util.regex.Pattern.compile("to=([^\\s<]+)").matcher(header);
        recipient = to.find() ? to.group(1) : "";
        int c = header.lastIndexOf("<|channel|>");
        String rest = c < 0 ? "" : header.substring(c + 11).strip();
        int end = 0;
        while (end < rest.length() && Character.isLetter(rest.charAt(end))) {
            end++;
        }
        channel = rest.substring(0, end);
        pos = m + 11;
        held = "";
        state = State.BODY;
        skipBlanks = false;
        return true;
    }

    private boolean isCall() {
        return !recipient.isEmpty() && !recipient.equals("user") && !recipient.equals("assistant");
    }

    private boolean body() {
        int end = -1;
        String marker = "";
        for (var m : ENDS) {
            int i = buffer.indexOf(m, pos);
            if (i >= 0 && (end < 0 || i < end)) {
                end = i;
                marker = m;
            }
        }
        if (isCall()) {
            if (end < 0 && !last) {
                return false;
            }
            String text = buffer.substring(pos, end < 0 ? buffer.length() : end).strip();
            if (end < 0 && Json.tryParse(text) == null) {
                content.append(text);
            } else {
                found.add(new ToolCall(recipient.startsWith("functions.") ? recipient.substring(10) : recipient, text));
            }
            pos = end < 0 ? buffer.length() : end + (marker.equals("<|start|>") ? 0 : marker.length());
        } else {
            var out = channel.equals("analysis") ? reasoning : content;
            write(out, end >= 0 ? end : buffer.length() - (last ? 0 : partial(ENDS)));
            if (end < 0) {
                if (last && out == reasoning) {
                    held = "";
                }
                return false;
            }
            if (out == content) {
                content.append(held);
            }
            held = "";
            pos = end + (marker.equals("<|start|>") ? 0 : marker.length());
        }
        state = end < 0 ? State.DONE : State.HEADER;
        return end >= 0;
    }

    // ---- literals

    private int blanks(int p) {
        while (p < buffer.length() && Character.isWhitespace(buffer.charAt(p))) {
            p++;
        }
        return p;
    }

    /** How much of the end of the buffer may be the start of a marker. */
    private int partial(List<String> markers) {
        int most = 0;
        for (var m : markers) {
            for (int n = Math.min(m.length() - 1, buffer.length() - pos); n > most; n--) {
                if (buffer.endsWith(m.substring(0, n))) {
                    most = n;
                }
            }
        }
        return most;
    }

    /** End of a literal at p; blanks between its markers do not count. */
    private int match(int p, String literal) {
        return match(p, literal, 0);
    }

    private int match(int p, String literal, int i) {
        while (i < literal.length()) {
            char c = literal.charAt(i);
            if (Character.isWhitespace(c)) {
                p = blanks(p);
                i++;
                continue;
            }
            if (c == ReplyFormat.ANY || c == ReplyFormat.ID) {
                while (i + 1 < literal.length() && literal.charAt(i + 1) == c) {
                    i++;
                }
                for (int k = p; k < p + 200; k++) {
                    int r = match(k, literal, i + 1);
                    if (r >= 0) {
                        if (c == ReplyFormat.ID || captured.isEmpty()) {
                            captured = buffer.substring(p, k);
                        }
                        return r;
                    }
                    if (r == INCOMPLETE || k >= buffer.length()) {
                        return INCOMPLETE;
                    }
                }
                return WRONG;
            }
            if (p < buffer.length() && buffer.charAt(p) != c && (i == 0 || "<>[]{}".indexOf(c) >= 0
                    || "<>[]{}".indexOf(literal.charAt(i - 1)) >= 0)) {
                p = blanks(p);
            }
            if (p >= buffer.length()) {
                return INCOMPLETE;
            }
            if (buffer.charAt(p) != c) {
                return WRONG;
            }
            p++;
            i++;
        }
        return p;
    }

    // ---- calls

    private int call(int p, ToolCall[] out) {
        return switch (calls.kind()) {
            case JSON -> json(p, out);
            case TAG_JSON, BRACES -> tagJson(p, out);
            case PYTHON -> python(p, out);
            case TAGGED -> tagged(p, out);
        };
    }

    private int json(int p, ToolCall[] out) {
        p = blanks(p);
        if (p < buffer.length() && buffer.charAt(p) == '[') {
            p = blanks(p + 1);
        }
        if (p == buffer.length()) {
            return INCOMPLETE;
        }
        if (buffer.charAt(p) != '{') {
            return WRONG;
        }
        int end = Scan.jsonEnd(buffer, p);
        if (end < 0) {
            return INCOMPLETE;
        }
        String text = buffer.substring(p, end);
        var tree = Json.tryParse(text);
        if (tree == null) {
            tree = Scan.Reader.value(text, true);
        }
        if (tree == null || !tree.isObject()) {
            return WRONG;
        }
        JsonNode inner = calls.wrapperKey() != null && tree.path(calls.wrapperKey()).isObject() ? tree.get(calls.wrapperKey()) : tree;
        String name = null;
        JsonNode arguments = null;
        if (calls.nameKey() == null) {
            var e = inner.properties().iterator().hasNext() ? inner.properties().iterator().next() : null;
            if (e != null && e.getValue().isObject()) {
                name = e.getKey();
                arguments = e.getValue();
            }
        } else {
            for (var key : new String[] {calls.nameKey(), "name", "tool_name"}) {
                if (name == null && inner.path(key).isString()) {
                    name = inner.get(key).stringValue();
                }
            }
            for (var key : new String[] {calls.argumentsKey(), "arguments", "parameters"}) {
                if (arguments == null && key != null && inner.has(key)) {
                    arguments = inner.get(key);
                }
            }
        }
        if (name == null || arguments == null && calls.opening().isEmpty()) {
            return WRONG;
        }
        String id = "";
        for (var key : new String[] {calls.idKey(), "id", "tool_call_id"}) {
            if (id.isEmpty() && key != null && tree.path(key).isValueNode() && tree.has(key)) {
                id = tree.get(key).asString("");
            }
        }
        out[0] = new ToolCall(id, name, arguments == null ? "{}" : arguments.isString() ? arguments.stringValue() : Json.write(arguments));
        return end;
    }

    private static final String NO_NAME = "\"'<>()[]{}=,";

    private int name(int p) {
        int q = p;
        boolean colon = calls.nameEnd().startsWith(":");
        while (q < buffer.length() && !Character.isWhitespace(buffer.charAt(q)) && NO_NAME.indexOf(buffer.charAt(q)) < 0
                && !(colon && buffer.charAt(q) == ':')) {
            q++;
        }
        return q;
    }

    private int tagJson(int p, ToolCall[] out) {
        p = blanks(p);
        int q = name(p);
        if (q == buffer.length()) {
            return INCOMPLETE;
        }
        String name = buffer.substring(p, q);
        if (name.isEmpty() || calls.opening().equals(">>>") && name.equals("all")) {
            return WRONG;
        }
        boolean idBefore = calls.start().indexOf(ReplyFormat.ID) >= 0;
        String id = idBefore ? captured : "";
        captured = "";
        int r = match(q, calls.nameEnd());
        if (r < 0) {
            return r;
        }
        if (calls.nameEnd().indexOf(ReplyFormat.ID) >= 0) {
            id = captured;
        } else if (calls.start().endsWith("functions.") && calls.nameEnd().startsWith(":")) {
            id = "functions." + name + ":" + captured;
        }
        r = blanks(r);
        if (r == buffer.length()) {
            return INCOMPLETE;
        }
        if (buffer.charAt(r) != '{') {
            return WRONG;
        }
        boolean braces = calls.kind() == Kind.BRACES;
        int end = braces ? Scan.bracesEnd(buffer, r) : Scan.jsonEnd(buffer, r);
        if (end < 0) {
            return INCOMPLETE;
        }
        String text = buffer.substring(r, end);
        var tree = braces ? Scan.Reader.value(text, false) : Json.tryParse(text);
        if (tree == null) {
            return WRONG;
        }
        out[0] = new ToolCall(id, name, braces ? Json.write(tree) : text);
        return end;
    }

    private int python(int p, ToolCall[] out) {
        p = blanks(p);
        int q = name(p);
        if (q == buffer.length()) {
            return INCOMPLETE;
        }
        if (q == p || buffer.charAt(q) != '(') {
            return WRONG;
        }
        int end = Scan.pythonEnd(buffer, q);
        if (end < 0) {
            return INCOMPLETE;
        }
        var tree = Scan.Reader.keywordArguments(buffer.substring(q, end));
        if (tree == null) {
            return WRONG;
        }
        out[0] = new ToolCall(buffer.substring(p, q), Json.write(tree));
        return end;
    }

    private int tagged(int p, ToolCall[] out) {
        p = blanks(p);
        int q = name(p);
        if (q == buffer.length()) {
            return INCOMPLETE;
        }
        if (q == p) {
            return WRONG;
        }
        String name = buffer.substring(p, q);
        String id = captured;
        int r = match(q, calls.nameEnd());
        if (r == INCOMPLETE) {
            return INCOMPLETE;
        }
        q = r >= 0 ? r : q;
        var arguments = Json.MAPPER.createObjectNode();
        while (true) {
            q = blanks(q);
            int k = match(q, calls.keyStart());
            if (k == INCOMPLETE) {
                return last && !calls.end().isBlank() && match(q, calls.end().strip()) >= 0 ? finish(q, id, name, arguments, out)
                        : INCOMPLETE;
            }
            // a closing tag may begin like a key
            if (k < 0 || k < buffer.length() && buffer.charAt(k) == '/') {
                if (q == buffer.length()) {
                    return INCOMPLETE;
                }
                int e = calls.end().isBlank() ? q : match(q, calls.end().strip());
                if (e == INCOMPLETE && !last) {
                    return INCOMPLETE;
                }
                if (e == WRONG && arguments.isEmpty() && calls.sectionEnd().isBlank()) {
                    return WRONG;
                }
                return finish(q, id, name, arguments, out);
            }
            captured = "";
            String close = ReplyFormat.firstMarker(calls.keyEnd().indexOf(ReplyFormat.ANY) < 0 ? calls.keyEnd()
                    : calls.keyEnd().substring(0, calls.keyEnd().indexOf(ReplyFormat.ANY)));
            int keyEnd = buffer.indexOf(close, k);
            if (keyEnd < 0) {
                return INCOMPLETE;
            }
            String key = buffer.substring(k, keyEnd).strip();
            int v = matchExact(keyEnd, calls.keyEnd());
            if (v < 0) {
                return v;
            }
            String type = captured;
            String ending = calls.valueEnd().replace(String.valueOf(ReplyFormat.ANY), key);
            int valueEnd = valueEnd(v, ending);
            if (valueEnd < 0) {
                return valueEnd;
            }
            String value = buffer.substring(v, valueEnd);
            String before = ending.substring(0, ending.length() - ending.stripLeading().length());
            if (!before.isEmpty() && value.endsWith(before)) {
                value = value.substring(0, value.length() - before.length());
            }
            arguments.set(key, value(name, key, value, calls.stringType() == null ? null : calls.stringType().equals(type)));
            q = match(valueEnd, ending.strip());
        }
    }

    private int finish(int q, String id, String name, JsonNode arguments, ToolCall[] out) {
        out[0] = new ToolCall(calls.start().indexOf(ReplyFormat.ID) >= 0 ? id : "", name, Json.write(arguments));
        return q;
    }

    /** Like match, but at most the blanks that the literal ends with are taken: those behind belong to the value. */
    private int matchExact(int p, String literal) {
        String core = literal.stripTrailing();
        int r = match(p, core);
        if (r < 0) {
            return r;
        }
        String after = literal.substring(core.length());
        if (buffer.startsWith(after, r)) {
            return r + after.length();
        }
        return r == buffer.length() && !last ? INCOMPLETE : r;
    }

    /** Where the value ends: at an ending that is followed by the next key or the end of the call. */
    private int valueEnd(int v, String ending) {
        String core = ending.strip();
        String end = calls.end().strip();
        for (int i = buffer.indexOf(core, v); i >= 0; i = buffer.indexOf(core, i + 1)) {
            int after = blanks(i + core.length());
            if (after == buffer.length()) {
                return last ? i : INCOMPLETE;
            }
            for (var next : List.of(calls.keyStart(), end, (end + calls.sectionEnd()).strip(), calls.sectionEnd().strip())) {
                if (!next.isBlank()) {
                    int r = match(after, next);
                    if (r >= 0) {
                        return i;
                    }
                    if (r == INCOMPLETE && !last) {
                        return INCOMPLETE;
                    }
                }
            }
            if (end.isEmpty() && calls.sectionEnd().isBlank()) {
                return i;
            }
        }
        return INCOMPLETE;
    }

    /** A tagged value: by what the tag says, then by the schema, then by its look. */
    private JsonNode value(String tool, String key, String text, Boolean string) {
        var nodes = Json.MAPPER.getNodeFactory();
        if (text.startsWith("<![CDATA[") && text.endsWith("]]>") && text.indexOf("]]>") == text.length() - 3) {
            return nodes.stringNode(text.substring(9, text.length() - 3));
        }
        if (string != null && string) {
            return nodes.stringNode(text);
        }
        JsonNode schema = schemas.containsKey(tool) ? schemas.get(tool).path(key) : Json.MAPPER.missingNode();
        boolean known = !schema.isMissingNode();
        boolean text1 = string == null && known && allows(schema, "string");
        if (text1 && !allows(schema, "object") && !allows(schema, "array") && !allows(schema, "integer") && !allows(schema, "number")
                && !allows(schema, "boolean") && !allows(schema, "null")) {
            return nodes.stringNode(text);
        }
        JsonNode tree = Json.tryParse(text.strip());
        if (tree == null && !text1) {
            tree = Scan.Reader.value(text, true);
        }
        if (tree == null && text.strip().startsWith("<")) {
            tree = Elements.read(text.strip());
        }
        if (tree == null || tree.isString() && string == null || text1 && !allows(schema, typeOf(tree))) {
            return nodes.stringNode(text);
        }
        return tree;
    }

    private static String typeOf(JsonNode n) {
        return n.isObject() ? "object" : n.isArray() ? "array" : n.isBoolean() ? "boolean" : n.isNull() ? "null"
                : n.isIntegralNumber() ? "integer" : n.isNumber() ? "number" : "string";
    }

    private static boolean allows(JsonNode schema, String type) {
        JsonNode t = schema.get("type");
        if (t != null && t.isString()) {
            return t.stringValue().equals(type) || type.equals("integer") && t.stringValue().equals("number");
        }
        if (t != null && t.isArray()) {
            for (var x : t) {
                if (x.stringValue("").equals(type) || type.equals("integer") && x.stringValue("").equals("number")) {
                    return true;
                }
            }
            return false;
        }
        for (var union : List.of("anyOf", "oneOf")) {
            if (schema.path(union).isArray()) {
                for (var x : schema.get(union)) {
                    if (allows(x, type)) {
                        return true;
                    }
                }
                return false;
            }
        }
        if (schema.path("enum").isArray()) {
            for (var x : schema.get("enum")) {
                if (typeOf(x).equals(type)) {
                    return true;
                }
            }
            return false;
        }
        return true;
    }
}
