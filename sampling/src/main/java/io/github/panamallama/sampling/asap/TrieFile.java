package io.github.panamallama.sampling.asap;

import io.github.panamallama.runtime.LlamaException;
import io.github.panamallama.runtime.WholeFile;
import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;
import java.util.zip.CheckedOutputStream;

/**
 * Tries on disk: a header with the key, then the nodes depth first, each with the numbers of its children that follow; at the end a
 * checksum of all before it.
 */
final class TrieFile {
    private static final int MAGIC = 0x504c5452;    // PLTR
    private static final int VERSION = 2;

    private TrieFile() {
    }

    record Loaded(Node trie, long draws) {
    }

    static void write(Path file, byte[] key, long draws, Node trie) {
        WholeFile.write(file, "the trie", to -> {
            var sum = new CRC32();
            var out = new DataOutputStream(new CheckedOutputStream(to, sum));
            out.writeInt(MAGIC);
            out.writeInt(VERSION);
            out.write(key);
            out.writeLong(draws);
            out.writeBoolean(trie != null);
            var stack = new ArrayDeque<Node>();
            if (trie != null) {
                stack.push(trie);
            }
            while (!stack.isEmpty()) {
                write(out, stack.pop(), stack);
            }
            out.writeLong(sum.getValue());
        });
    }

    private static void write(DataOutputStream out, Node node, ArrayDeque<Node> stack) throws IOException {
        int n = node.ids.length;
        out.writeBoolean(node.sparse);
        out.writeDouble(node.logMass);
        out.writeDouble(node.logEstimate);
        out.writeLong(node.visit);
        out.writeInt(n);
        int children = 0;
        for (int i = 0; i < n; i++) {
            out.writeInt(node.ids[i]);
            out.writeFloat(node.logP[i]);
            out.writeDouble(node.childEstimate(i));
            children += node.child(i) == null ? 0 : 1;
        }
        out.writeInt(children);
        for (int i = 0; i < n; i++) {
            if (node.child(i) != null) {
                out.writeInt(i);
            }
        }
        for (int i = n - 1; i >= 0; i--) {
            if (node.child(i) != null) {
                stack.push(node.child(i));
            }
        }
    }

    private record Slot(Node parent, int index, int depth) {
    }

    static Loaded read(Path file, byte[] key, int vocabularySize, int maxTokens) {
        var sum = new CRC32();
        try (var in = new DataInputStream(new CheckedInputStream(new BufferedInputStream(Files.newInputStream(file)), sum))) {
            if (in.readInt() != MAGIC || in.readInt() != VERSION) {
                throw new LlamaException(file + " is no trie of this version");
            }
            if (!Arrays.equals(in.readNBytes(key.length), key)) {
                throw new LlamaException(file
                        + " belongs to another model, adapter set, prompt, grammar, temperature, bias or limit of tokens; draw without it");
            }
            long draws = in.readLong();
            Node trie = null;
            var stack = new ArrayDeque<Slot>();
            if (in.readBoolean()) {
                stack.push(new Slot(null, 0, 0));
            }
            while (!stack.isEmpty()) {
                var slot = stack.pop();
                var node = read(file, in, slot, stack, vocabularySize, maxTokens);
                if (slot.parent == null) {
                    trie = node;
                } else {
                    slot.parent.child(slot.index, node);
                }
            }
            long expected = sum.getValue();
            if (in.readLong() != expected) {
                throw damaged(file, "its checksum is another one");
            }
            if (in.read() >= 0) {
                throw damaged(file, "there is more behind its last node");
            }
            return new Loaded(trie, draws);
        } catch (EOFException e) {
            throw new LlamaException(file + " ends before its trie does", e);
        } catch (IOException e) {
            throw new LlamaException("can't read the trie " + file + ": " + LlamaException.reason(e), e);
        }
    }

    private static Node read(Path file, DataInputStream in, Slot slot, ArrayDeque<Slot> stack, int vocabularySize, int maxTokens)
            throws IOException {
        if (slot.depth > maxTokens) {
            throw damaged(file, "a node is " + slot.depth + " tokens deep, the limit is " + maxTokens);
        }
        boolean sparse = in.readBoolean();
        double logMass = probability(file, in.readDouble(), "a mass");
        double logEstimate = probability(file, in.readDouble(), "an estimate");
        long visit = in.readLong();
        int n = in.readInt();
        if (n < 0 || n > vocabularySize) {
            throw damaged(file, "a node has " + n + " tokens, the vocabulary " + vocabularySize);
        }
        var ids = new int[n];
        var logP = new float[n];
        var logC = new double[n];
        for (int i = 0; i < n; i++) {
            ids[i] = in.readInt();
            if (ids[i] < 0 || ids[i] >= vocabularySize || i > 0 && ids[i] <= ids[i - 1]) {
                throw damaged(file, "token " + ids[i] + " is outside the vocabulary or out of order");
            }
            logP[i] = (float) probability(file, in.readFloat(), "a probability");
            logC[i] = probability(file, in.readDouble(), "an estimate");
        }
        var node = new Node(sparse, ids, logP, logMass);
        for (int i = 0; i < n; i++) {
            if (logC[i] < 0) {
                node.childEstimate(i, logC[i]);
            }
        }
        node.logEstimate = logEstimate;
        node.visit = visit;
        int children = in.readInt();
        if (children < 0 || children > n) {
            throw damaged(file, "a node of " + n + " tokens has " + children + " children");
        }
        var at = new int[children];
        for (int i = 0; i < children; i++) {
            at[i] = in.readInt();
            if (at[i] < 0 || at[i] >= n || i > 0 && at[i] <= at[i - 1]) {
                throw damaged(file, "child " + at[i] + " of a node of " + n + " tokens");
            }
        }
        for (int i = children - 1; i >= 0; i--) {
            stack.push(new Slot(node, at[i], slot.depth + 1));
        }
        return node;
    }

    private static double probability(Path file, double log, String what) {
        if (!(log <= 0)) {
            throw damaged(file, "the logarithm of " + what + " is " + log + ", not 0 or less");
        }
        return log;
    }

    private static LlamaException damaged(Path file, String why) {
        return new LlamaException(file + " is damaged: " + why);
    }
}
