package io.github.panamallama.runtime;

import io.github.panamallama.bindings.LlamaH;
import io.github.panamallama.bindings.pl_error;
import io.github.panamallama.bindings.pl_row_pieces;
import io.github.panamallama.runtime.natives.Natives;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import java.util.stream.IntStream;

/**
 * A model's tokens: text to tokens, tokens to text, and what each token is for.
 *
 * <p>Token ids are {@code 0} to {@link #size} - 1; a special token that the model lacks is {@code -1}. Any text may be tokenized:
 * time grows linearly with its length, native stack does not grow with it. What tokens stand for is copied to the Java heap when the
 * model is loaded, so that turning tokens into text never calls native code and works after the model is closed; tokenizing needs
 * the open model. Immutable, safe for any number of threads at once.
 */
public final class Vocabulary {
    static {
        Natives.load();
    }

    /** The longest text that {@link #tokenize} takes, in bytes of UTF-8. Tokenizing needs up to 300 times that in memory. */
    public static final int MAX_TEXT_BYTES = 16 << 20;

    /** Tokens that native code may add beside one per byte. */
    private static final int ROOM = 16;

    /** In place of the text of a piece that does not hold whole characters only. */
    private static final String PARTIAL = new String("partial");

    /** The algorithm that makes tokens of a text, {@code enum llama_vocab_type}. */
    public enum Type {
        /** The model has no vocabulary: it takes tokens and gives tokens. */
        NONE,
        /** Byte-pair encoding as SentencePiece does it, with byte tokens for what is not in the vocabulary. */
        SPM,
        /** Byte-pair encoding as GPT-2 does it, within the words that a regular expression makes. */
        BPE,
        /** WordPiece, as in BERT; loses white space, control characters and, in most models, case. */
        WPM,
        /** Unigram, as in T5; normalises the text. */
        UGM,
        /** Longest match, as in RWKV. */
        RWKV,
        /** The tokenizer of PLaMo 2. */
        PLAMO2,
        /** Upstream's tokenizer for tests; its tokens do not hold the text. */
        TEST
    }

    private final MemorySegment vocab;
    private final MemorySegment tokenizer;
    private final ReentrantReadWriteLock life = new ReentrantReadWriteLock(); // read: in use; write: closing
    private boolean closed;

    private final Type type;
    private final int[] attributes;
    private final byte[] pieces;
    private final int[] ends; // piece t is pieces[ends[t - 1]] to pieces[ends[t] - 1]
    private final String[] texts; // filled on first use; a race only does the work twice
    private volatile MemorySegment rowPieces;
    private final boolean startsWithSpace; // a text is given a leading space before it is tokenized

    private final int bos;
    private final int eos;
    private final int eot;
    private final int nl;
    private final int pad;
    private final int sep;
    private final int mask;
    private final int fimPrefix;
    private final int fimSuffix;
    private final int fimMiddle;
    private final int fimPad;
    private final int fimRepo;
    private final int fimSeparator;
    private final boolean addsBos;
    private final boolean addsEos;
    private final boolean addsSep;

    /**
     * @param vocab the {@code llama_vocab} of a loaded model, which calls {@link #close} before it goes
     */
    Vocabulary(MemorySegment vocab) {
        this.vocab = vocab;
        type = type(LlamaH.llama_vocab_type(vocab));
        var n = LlamaH.llama_vocab_n_tokens(vocab);
        try (var arena = Arena.ofConfined()) {
            var error = pl_error.allocate(arena);

            var bits = arena.allocate(ValueLayout.JAVA_INT, Math.max(1, n));
            LlamaH.pl_vocab_attributes(vocab, bits, error);
            check(error, "reading the vocabulary");
            attributes = Arrays.copyOf(bits.toArray(ValueLayout.JAVA_INT), n);

            var last = arena.allocate(ValueLayout.JAVA_INT, Math.max(1, n));
            var bytes = arena.allocate(16L * n + 1);
            var total = LlamaH.pl_vocab_pieces(vocab, last, bytes, bytes.byteSize(), error);
            check(error, "reading the vocabulary");
            if (total > bytes.byteSize()) {
                bytes = arena.allocate(total);
                LlamaH.pl_vocab_pieces(vocab, last, bytes, total, error);
                check(error, "reading the vocabulary");
            }
            ends = Arrays.copyOf(last.toArray(ValueLayout.JAVA_INT), n);
            pieces = bytes.asSlice(0, total).toArray(ValueLayout.JAVA_BYTE);
            texts = new String[n];

            bos = present(LlamaH.llama_vocab_bos(vocab));
            eos = present(LlamaH.llama_vocab_eos(vocab));
            eot = present(LlamaH.llama_vocab_eot(vocab));
            nl = present(LlamaH.llama_vocab_nl(vocab));
            pad = present(LlamaH.llama_vocab_pad(vocab));
            sep = present(LlamaH.llama_vocab_sep(vocab));
            mask = present(LlamaH.llama_vocab_mask(vocab));
            fimPrefix = present(LlamaH.llama_vocab_fim_pre(vocab));
            fimSuffix = present(LlamaH.llama_vocab_fim_suf(vocab));
            fimMiddle = present(LlamaH.llama_vocab_fim_mid(vocab));
            fimPad = present(LlamaH.llama_vocab_fim_pad(vocab));
            fimRepo = present(LlamaH.llama_vocab_fim_rep(vocab));
            fimSeparator = present(LlamaH.llama_vocab_fim_sep(vocab));
            addsBos = LlamaH.llama_vocab_get_add_bos(vocab);
            addsEos = LlamaH.llama_vocab_get_add_eos(vocab);
            addsSep = LlamaH.llama_vocab_get_add_sep(vocab);
            startsWithSpace = type != Type.NONE && stripsLeadingSpace(arena, error);

            tokenizer = LlamaH.pl_tokenizer_new(vocab, error);
            check(error, "preparing the tokenizer");
        }
    }

    private static Type type(int nativeType) {
        var types = Type.values(); // in the order of upstream's enum but for TEST
        return nativeType >= 0 && nativeType < Type.TEST.ordinal() ? types[nativeType] : Type.TEST;
    }

    private int present(int token) {
        return token >= 0 && token < attributes.length ? token : -1;
    }

    /** Asks for the text of one token that begins with a space; upstream's C API has no getter for this. */
    private boolean stripsLeadingSpace(Arena arena, MemorySegment error) {
        for (var token = 0; token < attributes.length; token++) {
            var start = start(token);
            if (ends[token] - start >= 2 && pieces[start] == ' ' && Character.isLetter(pieces[start + 1])
                    && (attributes[token] & LlamaH.LLAMA_TOKEN_ATTR_NORMAL()) != 0) {
                var length = LlamaH.pl_detokenize(vocab, arena.allocateFrom(ValueLayout.JAVA_INT, token), 1,
                        arena.allocate(ends[token] - start), ends[token] - start, false, false, error);
                return error(error) == 0 && length == ends[token] - start - 1;
            }
        }
        return false;
    }

    /** Frees the native tokenizer once no thread tokenizes; idempotent. The model calls this before it frees itself. */
    void close() {
        life.writeLock().lock();
        try {
            if (!closed) {
                closed = true;
                LlamaH.pl_tokenizer_free(tokenizer);
            }
        } finally {
            life.writeLock().unlock();
        }
    }

    // ---- text to tokens

    /**
     * The tokens of {@code text}. An unpaired surrogate counts as U+FFFD, the replacement character.
     *
     * @param addSpecial whether to add the tokens with which the model wants its input to begin and end, as {@link #addsBos} and
     *     {@link #addsEos} tell
     * @param parseSpecial whether the spelling of a control token in the text, such as {@code <|im_end|>}, becomes that token; never
     *     for text that comes from outside. Other tokens that the model's maker added by hand are found either way
     * @throws TokenizationException if the model has no vocabulary, the text is longer than {@link #MAX_TEXT_BYTES}, or the vocabulary
     *     has no tokens for it
     * @throws ClosedException if the model is closed
     */
    public int[] tokenize(String text, boolean addSpecial, boolean parseSpecial) {
        return tokenize(utf8(text), addSpecial, parseSpecial);
    }

    /**
     * The tokens of {@code utf8}. Bytes that are not UTF-8 become whatever the vocabulary's algorithm makes of them: byte tokens
     * ({@link Type#SPM}, {@link Type#RWKV}), or the tokens of one U+FFFD per byte.
     *
     * @param addSpecial as in {@link #tokenize(String, boolean, boolean)}
     * @param parseSpecial as in {@link #tokenize(String, boolean, boolean)}
     * @throws TokenizationException as {@link #tokenize(String, boolean, boolean)}
     * @throws ClosedException if the model is closed
     */
    public int[] tokenize(byte[] utf8, boolean addSpecial, boolean parseSpecial) {
        if (type == Type.NONE || attributes.length == 0) {
            throw new TokenizationException("the model has no vocabulary (tokenizer.ggml.model is \"none\"); give it tokens instead of text");
        }
        if (utf8.length > MAX_TEXT_BYTES) {
            throw new TokenizationException("text of " + utf8.length + " bytes is longer than " + MAX_TEXT_BYTES
                    + "; tokenize it in parts, cut at line ends");
        }
        life.readLock().lock();
        try (var arena = Arena.ofConfined()) {
            requireOpen();
            var error = pl_error.allocate(arena);
            var text = arena.allocate(Math.max(1, utf8.length));
            MemorySegment.copy(utf8, 0, text, ValueLayout.JAVA_BYTE, 0, utf8.length);
            var room = utf8.length + ROOM;
            while (true) {
                var tokens = arena.allocate(ValueLayout.JAVA_INT, room);
                var n = LlamaH.pl_tokenizer_tokenize(tokenizer, text, utf8.length, tokens, room, addSpecial, parseSpecial, error);
                if (error(error) != 0) {
                    throw failure(error, utf8);
                }
                if (n >= 0) {
                    return tokens.asSlice(0, 4L * n).toArray(ValueLayout.JAVA_INT);
                }
                room = -n;
            }
        } finally {
            life.readLock().unlock();
        }
    }

    private static LlamaException failure(MemorySegment error, byte[] utf8) {
        var message = pl_error.message(error).getString(0);
        if (error(error) == LlamaH.PL_OUT_OF_MEMORY()) {
            return new LlamaException("out of memory while tokenizing " + utf8.length + " bytes; tokenize them in parts");
        }
        return new TokenizationException("cannot tokenize " + utf8.length + " bytes: " + message);
    }

    private static byte[] utf8(String text) {
        for (var i = 0; i < text.length(); i++) {
            if (Character.isSurrogate(text.charAt(i))) {
                if (i + 1 < text.length() && Character.isSurrogatePair(text.charAt(i), text.charAt(i + 1))) {
                    i++;
                } else {
                    return wellFormed(text).getBytes(StandardCharsets.UTF_8); // getBytes alone would put a question mark
                }
            }
        }
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String wellFormed(String text) {
        return text.codePoints().map(c -> c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE ? 0xfffd : c)
                .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append).toString();
    }

    // ---- tokens to text

    /**
     * The text of a whole text's tokens, the inverse of {@link #tokenize} where the vocabulary is lossless. Control tokens are left
     * out. If the vocabulary puts a space before a text, the first token's is taken away again; to continue a text use
     * {@link #decoder()}. Bytes that are not UTF-8 become U+FFFD as in {@link String#String(byte[], java.nio.charset.Charset)}.
     *
     * <p>As upstream's {@code llama_detokenize} except that no spaces are removed before punctuation, which would spoil code.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public String detokenize(int... tokens) {
        return detokenize(tokens, false);
    }

    /**
     * As {@link #detokenize(int...)}.
     *
     * @param special whether control tokens are spelled out
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public String detokenize(int[] tokens, boolean special) {
        var length = 0L;
        for (var token : tokens) {
            check(token);
            length += ends[token] - start(token);
        }
        var bytes = new byte[Math.toIntExact(length)];
        var size = 0;
        for (var i = 0; i < tokens.length; i++) {
            var token = tokens[i];
            if (special || !isHidden(token)) {
                var start = start(token) + (i == 0 && startsWithSpace && isSpaced(token) ? 1 : 0);
                System.arraycopy(pieces, start, bytes, size, ends[token] - start);
                size += ends[token] - start;
            }
        }
        return new String(bytes, 0, size, StandardCharsets.UTF_8);
    }

    /** A decoder for tokens that continue a text, as generated ones do: nothing is taken from the first. */
    public TokenDecoder decoder() {
        return new TokenDecoder(this, false, false);
    }

    /** As {@link #decoder()}, with control tokens spelled out: in a conversation they mark what is reasoning, text or a call. */
    public TokenDecoder spellingDecoder() {
        return new TokenDecoder(this, false, true);
    }

    /**
     * A decoder whose texts, put together, are those of {@link #detokenize(int...)} if {@code startOfText}, else of {@link #decoder()}.
     */
    public TokenDecoder decoder(boolean startOfText) {
        return new TokenDecoder(this, startOfText && startsWithSpace, false);
    }

    /**
     * The bytes that {@code token} stands for, a part of a UTF-8 text; a control token's spelling. A new array.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public byte[] bytes(int token) {
        check(token);
        return Arrays.copyOfRange(pieces, start(token), ends[token]);
    }

    /**
     * The token's spelling in the vocabulary, in which a space may be written {@code ▁} or {@code Ġ} and a byte {@code <0x0A>}.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     * @throws ClosedException if the model is closed
     * @throws TokenizationException if the model has no vocabulary
     */
    public String text(int token) {
        check(token);
        requireVocabulary();
        life.readLock().lock();
        try {
            requireOpen();
            return LlamaH.llama_vocab_get_text(vocab, token).reinterpret(Long.MAX_VALUE).getString(0);
        } finally {
            life.readLock().unlock();
        }
    }

    /**
     * The token's score, a log-probability or rank that only the algorithms {@link Type#SPM} and {@link Type#UGM} use.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     * @throws ClosedException if the model is closed
     * @throws TokenizationException if the model has no vocabulary
     */
    public float score(int token) {
        check(token);
        requireVocabulary();
        life.readLock().lock();
        try {
            requireOpen();
            return LlamaH.llama_vocab_get_score(vocab, token);
        } finally {
            life.readLock().unlock();
        }
    }

    // ---- what tokens are

    /** The number of tokens, {@code n_vocab}. */
    public int size() {
        return attributes.length;
    }

    /** The algorithm. */
    public Type type() {
        return type;
    }

    /** Begins a text. */
    public int bos() {
        return bos;
    }

    /** Ends a text. */
    public int eos() {
        return eos;
    }

    /** Ends a turn of a conversation. */
    public int eot() {
        return eot;
    }

    /** A line feed. */
    public int nl() {
        return nl;
    }

    /** Fills up a batch. */
    public int pad() {
        return pad;
    }

    /** Separates sentences. */
    public int sep() {
        return sep;
    }

    /** What a diffusion or masked model replaces. */
    public int mask() {
        return mask;
    }

    /** Fill in the middle: begins what stands before the gap. */
    public int fimPrefix() {
        return fimPrefix;
    }

    /** Fill in the middle: begins what stands behind the gap. */
    public int fimSuffix() {
        return fimSuffix;
    }

    /** Fill in the middle: begins the gap. */
    public int fimMiddle() {
        return fimMiddle;
    }

    /** Fill in the middle: fills up a batch. */
    public int fimPad() {
        return fimPad;
    }

    /** Fill in the middle: begins a repository's name. */
    public int fimRepo() {
        return fimRepo;
    }

    /** Fill in the middle: begins a file's name. */
    public int fimSeparator() {
        return fimSeparator;
    }

    /** Whether {@link #tokenize} with special tokens begins with {@link #bos}. */
    public boolean addsBos() {
        return addsBos;
    }

    /** Whether {@link #tokenize} with special tokens ends with {@link #eos}. */
    public boolean addsEos() {
        return addsEos;
    }

    /** Whether {@link #sep} stands between two texts that are read together. */
    public boolean addsSep() {
        return addsSep;
    }

    /**
     * Whether the model has finished when it gives this token.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isEndOfGeneration(int token) {
        return has(token, LlamaH.PL_TOKEN_END_OF_GENERATION());
    }

    /** All tokens with which generation ends, ascending; a new array. */
    public int[] endOfGeneration() {
        return IntStream.range(0, size()).filter(this::isEndOfGeneration).toArray();
    }

    /**
     * Whether the token steers the model and is no text.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isControl(int token) {
        return has(token, LlamaH.LLAMA_TOKEN_ATTR_CONTROL());
    }

    /**
     * The spellings that {@link #tokenize} with {@code parseSpecial} takes for something else than text: those of the tokens that steer
     * the model, and of the one for what has no token. Longest first.
     */
    public List<String> specialSpellings() {
        return IntStream.range(0, size()).filter(token -> isControl(token) || isUnknown(token))
                .mapToObj(token -> new String(bytes(token), StandardCharsets.UTF_8)).filter(text -> !text.isEmpty()).distinct()
                .sorted(Comparator.comparingInt(String::length).reversed()).toList();
    }

    /**
     * Whether the token stands for text that has no token.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isUnknown(int token) {
        return has(token, LlamaH.LLAMA_TOKEN_ATTR_UNKNOWN());
    }

    /**
     * Whether the model's maker added the token by hand; its spelling is found in any text.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isUserDefined(int token) {
        return has(token, LlamaH.LLAMA_TOKEN_ATTR_USER_DEFINED());
    }

    /**
     * Whether the token is a single byte that stands in for text without tokens.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isByte(int token) {
        return has(token, LlamaH.LLAMA_TOKEN_ATTR_BYTE());
    }

    /**
     * Whether the token was never trained.
     *
     * @throws IndexOutOfBoundsException for a token outside the vocabulary
     */
    public boolean isUnused(int token) {
        return has(token, LlamaH.LLAMA_TOKEN_ATTR_UNUSED());
    }

    // ---- for RowChain

    /** The texts of tokens and which of them end one, as {@code pl_row_pieces}; control tokens have none. As long as it is reachable. */
    MemorySegment rowPieces() {
        var tables = rowPieces;
        if (tables == null) {
            requireVocabulary();
            var arena = Arena.ofAuto();
            tables = pl_row_pieces.allocate(arena);
            var bytes = arena.allocate(Math.max(1, pieces.length));
            var last = arena.allocate(ValueLayout.JAVA_INT, attributes.length);
            var ending = arena.allocate(attributes.length);
            int size = 0;
            for (int token = 0; token < attributes.length; token++) {
                if (!isHidden(token)) {
                    MemorySegment.copy(pieces, start(token), bytes, ValueLayout.JAVA_BYTE, size, length(token));
                    size += length(token);
                }
                last.setAtIndex(ValueLayout.JAVA_INT, token, size);
                ending.set(ValueLayout.JAVA_BYTE, token, (byte) (isEndOfGeneration(token) ? 1 : 0));
            }
            pl_row_pieces.ends(tables, last);
            pl_row_pieces.bytes(tables, bytes);
            pl_row_pieces.ending(tables, ending);
            pl_row_pieces.end(tables, eot >= 0 ? eot : eos);
            rowPieces = tables;
        }
        return tables;
    }

    // ---- for TokenDecoder

    /** The text of the whole piece, or null if it begins or ends within a character or is not UTF-8. */
    String wholeText(int token) {
        var text = texts[token];
        if (text == null) {
            text = new String(pieces, start(token), ends[token] - start(token), StandardCharsets.UTF_8);
            // The replacement character itself is rare enough to take the longer way.
            text = text.indexOf('\ufffd') >= 0 ? PARTIAL : text;
            texts[token] = text;
        }
        return text == PARTIAL ? null : text;
    }

    /** Whether the token is left out of texts, as upstream does. */
    boolean isHidden(int token) {
        return (attributes[token] & (LlamaH.LLAMA_TOKEN_ATTR_CONTROL() | LlamaH.LLAMA_TOKEN_ATTR_UNKNOWN())) != 0;
    }

    boolean isSpaced(int token) {
        return ends[token] > start(token) && pieces[start(token)] == ' ';
    }

    int length(int token) {
        return ends[token] - start(token);
    }

    void copy(int token, int from, byte[] target, int at) {
        System.arraycopy(pieces, start(token) + from, target, at, length(token) - from);
    }

    void check(int token) {
        Objects.checkIndex(token, attributes.length);
    }

    // ----

    private int start(int token) {
        return token == 0 ? 0 : ends[token - 1];
    }

    private boolean has(int token, int attribute) {
        check(token);
        return (attributes[token] & attribute) != 0;
    }

    private void requireVocabulary() {
        if (type == Type.NONE) {
            throw new TokenizationException("the model has no vocabulary (tokenizer.ggml.model is \"none\")");
        }
    }

    private void requireOpen() {
        if (closed) {
            throw new ClosedException("the model of this vocabulary is closed; keep it open while tokenizing");
        }
    }

    private static int error(MemorySegment error) {
        return pl_error.code(error);
    }

    private static void check(MemorySegment error, String what) {
        if (error(error) != 0) {
            throw new LlamaException(what + " failed: " + pl_error.message(error).getString(0));
        }
    }
}
