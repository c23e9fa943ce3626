package io.github.panamallama.sampling.grammar;

import io.github.panamallama.runtime.Vocabulary;
import io.github.panamallama.sampling.automaton.Encoding;
import io.github.panamallama.sampling.automaton.LeftRecursionException;
import io.github.panamallama.sampling.automaton.LimitException;
import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.automaton.RegexSyntaxException;
import io.github.panamallama.sampling.grammar.GrammarDefinition.Notation;
import io.github.panamallama.sampling.schema.JsonSchemas;
import io.github.panamallama.sampling.schema.Refusal;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.List;
import java.util.TreeMap;
import java.util.WeakHashMap;

/**
 * A language that generated text has to belong to, whatever it was written in. Compiled when it is made; what is learnt while it is
 * used (states, masks) is shared by all constraints of it. Safe for any number of threads, which take turns while they ask for masks.
 */
public final class Grammar {
    private final String text;
    private final Source source;
    private final GrammarDefinition definition;
    private CompiledGrammar shared; // of grammars that name no tokens
    private final WeakHashMap<GrammarVocabulary, CompiledGrammar> compiled = new WeakHashMap<>(); // of those that do

    private Grammar(String text, Source source, GrammarDefinition definition) {
        this.text = text;
        this.source = source;
        this.definition = definition;
    }

    /**
     * The grammar that a definition describes: another one of the same language as that which told it.
     *
     * @throws GrammarException as the method of its notation
     */
    public static Grammar of(GrammarDefinition definition) {
        var options = definition.options();
        var grammar = switch (definition.notation()) {
            case GBNF -> gbnf(definition.texts().getFirst(), options);
            case REGEX -> regex(definition.texts().getFirst(), options);
            case CHOICES -> choices(definition.texts(), options);
            case JSON_SCHEMA -> jsonSchema(definition.texts().getFirst(), definition.json(), options);
        };
        return definition.triggers().isEmpty() ? grammar : grammar.lazy(definition.triggers().toArray(Trigger[]::new));
    }

    /**
     * A grammar in GBNF, llama.cpp's notation. The rule {@code root} is what the whole text has to match.
     *
     * @throws GrammarException if it does not parse, uses an undefined rule, is left-recursive, matches nothing, or is beyond a limit
     */
    public static Grammar gbnf(String source) {
        return gbnf(source, GrammarOptions.defaults());
    }

    /** As {@link #gbnf(String)}, within these limits. */
    public static Grammar gbnf(String source, GrammarOptions options) {
        return make("gbnf\n" + source, () -> new GbnfSource(limited(source, options), options),
                new GrammarDefinition(Notation.GBNF, List.of(source), null, options, List.of()));
    }

    /**
     * What a regular expression matches as a whole. The syntax is that of ECMA-262 as far as it is regular: no back references,
     * look-behind, word boundaries or flags; characters are code points, and {@code .} is all but line ends.
     *
     * @throws GrammarException if it does not parse, uses what is not supported, matches nothing, or is beyond a limit
     */
    public static Grammar regex(String pattern) {
        return regex(pattern, GrammarOptions.defaults());
    }

    /** As {@link #regex(String)}, within these limits. */
    public static Grammar regex(String pattern, GrammarOptions options) {
        limited(pattern, options);
        return make("regex\n" + pattern, () -> (pool, _) -> pool.terminal(pool.regexes().match(pattern, Encoding.UTF8)),
                new GrammarDefinition(Notation.REGEX, List.of(pattern), null, options, List.of()));
    }

    /**
     * Exactly one of these texts.
     *
     * @throws GrammarException if there are none
     */
    public static Grammar choices(Collection<String> texts) {
        return choices(texts, GrammarOptions.defaults());
    }

    /** As {@link #choices(Collection)}, within these limits. */
    public static Grammar choices(Collection<String> texts, GrammarOptions options) {
        var copy = List.copyOf(texts);
        if (copy.isEmpty()) {
            throw new GrammarException("no choices; expected at least one text");
        }
        long chars = copy.stream().mapToLong(String::length).sum();
        if (chars > options.sourceChars()) {
            throw new GrammarException("choices of " + chars + " chars are longer than the limit of " + options.sourceChars());
        }
        var text = new StringBuilder("choices");
        copy.forEach(choice -> text.append('\n').append(choice.length()).append(' ').append(choice));
        return make(text.toString(), () -> (pool, _) -> pool.terminal(pool.regexes().anyOf(copy, Encoding.UTF8)),
                new GrammarDefinition(Notation.CHOICES, copy, null, options, List.of()));
    }

    /**
     * The JSON documents that a JSON Schema (draft 2020-12) allows, compact, properties in any order.
     *
     * @throws GrammarException if it is no schema, asks for what can't be enforced token by token (with the keyword's JSON pointer), allows
     *                          nothing, or is beyond a limit
     */
    public static Grammar jsonSchema(String schema) {
        return jsonSchema(schema, JsonOptions.DEFAULT, GrammarOptions.defaults());
    }

    /** As {@link #jsonSchema(String)}, written in this way. */
    public static Grammar jsonSchema(String schema, JsonOptions json) {
        return jsonSchema(schema, json, GrammarOptions.defaults());
    }

    /** As {@link #jsonSchema(String)}, written in this way, within these limits. */
    public static Grammar jsonSchema(String schema, JsonOptions json, GrammarOptions options) {
        limited(schema, options);
        var ways = json.order() + " " + json.spelling() + " " + json.whitespace() + " " + json.formats() + " "
                + new TreeMap<>(json.documents());
        return make("json-schema " + ways + "\n" + schema,
                () -> (pool, _) -> JsonSchemas.compile(schema, json, pool, options.compileTime().toNanos()),
                new GrammarDefinition(Notation.JSON_SCHEMA, List.of(schema), json, options, List.of()));
    }

    /** Any JSON document, compact. */
    public static Grammar json() {
        return json(JsonOptions.DEFAULT);
    }

    /** Any JSON document, written in this way. */
    public static Grammar json(JsonOptions json) {
        return jsonSchema("true", json);
    }

    private interface Reader {
        Source read();
    }

    private static Grammar make(String text, Reader reader, GrammarDefinition definition) {
        return translated(() -> {
            var source = reader.read();
            var grammar = new Grammar(text, source, definition);
            grammar.shared = grammar.compiled((GrammarVocabulary) null);
            return grammar;
        });
    }

    private interface Work<T> {
        T run();
    }

    private static <T> T translated(Work<T> work) {
        try {
            return work.run();
        } catch (LimitException | RegexSyntaxException | LeftRecursionException e) {
            throw new GrammarException(e.getMessage(), e);
        } catch (Refusal e) {
            throw e.pointer() == null ? new GrammarException(e.getMessage(), e) : GrammarException.at(e.pointer(), e.getMessage());
        } catch (StackOverflowError e) {
            throw new GrammarException("the grammar nests too deep for this thread's stack; nest less or use a thread with a larger stack",
                    e);
        }
    }

    private static String limited(String source, GrammarOptions options) {
        if (source.length() > options.sourceChars()) {
            throw new GrammarException("a grammar of " + source.length() + " chars is longer than the limit of " + options.sourceChars());
        }
        return source;
    }

    /**
     * The same grammar, but asleep until one of the triggers shows up in the generated text: until then every token is allowed, also
     * those that end the text.
     *
     * @throws GrammarException if the grammar includes a trigger's text and no text of it begins so
     */
    public Grammar lazy(Trigger... triggers) {
        if (triggers.length == 0) {
            throw new IllegalArgumentException("a lazy grammar needs a trigger");
        }
        var lazy = new Grammar(text, source, definition.withTriggers(List.of(triggers)));
        lazy.shared = shared;
        return lazy;
    }

    /** What it was made from, and how: where it is equal, so is the language. For whoever keeps something per grammar. */
    public String source() {
        return triggers().isEmpty() ? text : text + "\n" + triggers();
    }

    /** What it was made from, as data: {@link #of} makes the same of it, in another process too. */
    public GrammarDefinition definition() {
        return definition;
    }

    /** The limits that it was made with. */
    public GrammarOptions options() {
        return definition.options();
    }

    /** What wakes the grammar; empty for one that is always awake. */
    public List<Trigger> triggers() {
        return definition.triggers();
    }

    /**
     * A constraint that holds tokens to this grammar, before any token.
     *
     * @throws GrammarException if the grammar names a token that the vocabulary does not have
     */
    public GrammarConstraint constraint(GrammarVocabulary vocabulary) {
        return translated(() -> new GrammarConstraint(this, vocabulary));
    }

    /** As {@link #constraint(GrammarVocabulary)}; preparing a vocabulary the first time takes a fraction of a second. */
    public GrammarConstraint constraint(Vocabulary vocabulary) {
        return constraint(GrammarVocabulary.of(vocabulary));
    }

    /** Whether the whole text belongs to the language; tokens that the grammar names can't be part of a text. Ignores triggers. */
    public boolean accepts(String text) {
        var bytes = text.getBytes(StandardCharsets.UTF_8);
        return prefix(bytes) == bytes.length && isComplete(bytes);
    }

    /**
     * How many bytes of {@code utf8} may begin a text of the language: its length if all may, else the index of the first byte that
     * may not stand there. Ignores triggers.
     */
    public int prefix(byte[] utf8) {
        var compiled = compiled((GrammarVocabulary) null);
        return compiled.locked(() -> {
            int state = compiled.recogniser.start();
            for (int i = 0; i < utf8.length; i++) {
                state = compiled.recogniser.push(state, utf8[i]);
                if (state == 0) {
                    return i;
                }
            }
            return utf8.length;
        });
    }

    private boolean isComplete(byte[] utf8) {
        var compiled = compiled((GrammarVocabulary) null);
        return compiled.locked(() -> {
            int state = compiled.recogniser.start();
            for (byte b : utf8) {
                state = compiled.recogniser.push(state, b);
            }
            return compiled.recogniser.isComplete(state);
        });
    }

    /** The automata to use now for this vocabulary; null stands for none, where tokens have no numbers. New ones once they are full. */
    synchronized CompiledGrammar compiled(GrammarVocabulary vocabulary) {
        boolean own = source.namesTokens() && vocabulary != null;
        var known = own ? compiled.get(vocabulary) : shared;
        if (known == null || known.full()) {
            var pool = new NodePool();
            int root = source.build(pool, new Names(vocabulary));
            known = new CompiledGrammar(pool, root, options());
            if (own) {
                compiled.put(vocabulary, known);
            } else {
                shared = known;
            }
        }
        return known;
    }

    private record Names(GrammarVocabulary vocabulary) implements Source.TokenNames {
        @Override
        public int named(String spelling) {
            if (vocabulary == null) {
                return Integer.MAX_VALUE;
            }
            int token = vocabulary.find(spelling.getBytes(StandardCharsets.UTF_8));
            if (token < 0) {
                throw new GrammarException("the vocabulary has no token spelled " + spelling + "; expected one of its tokens, or its number"
                        + " as <[1000]>");
            }
            return numbered(token, false);
        }

        @Override
        public int numbered(long id, boolean negated) {
            if (vocabulary == null) {
                return Integer.MAX_VALUE;
            }
            if (id >= vocabulary.size()) {
                throw new GrammarException("token " + id + " is outside the vocabulary of " + vocabulary.size());
            }
            if (vocabulary.isEndOfGeneration((int) id) && !negated) {
                throw new GrammarException("token " + id + " ends the generation and can't stand in a text; the end needs no mention");
            }
            return (int) id;
        }
    }

    @Override
    public String toString() {
        return "grammar" + (triggers().isEmpty() ? "" : " woken by " + triggers());
    }
}
