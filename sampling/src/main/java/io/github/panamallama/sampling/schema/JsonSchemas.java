package io.github.panamallama.sampling.schema;

import io.github.panamallama.sampling.automaton.Encoding;
import io.github.panamallama.sampling.automaton.LimitException;
import io.github.panamallama.sampling.automaton.NodePool;
import io.github.panamallama.sampling.grammar.JsonOptions;

/** JSON Schema as grammar nodes. */
public final class JsonSchemas {
    private static final int FORMULAS = 200_000;
    private static final long STEPS = 5_000_000;

    private JsonSchemas() { }

    /**
     * The node whose words are the JSON texts of the schema's values. Nodes are expanded when they are reached, but everything that
     * could be refused is looked at here.
     *
     * @param schema a JSON document
     * @param nodes  receives the nodes
     * @param nanos  longest time
     * @throws Refusal if the document is no schema, is more than a mask can enforce, or takes more than its budget
     */
    public static int compile(String schema, JsonOptions options, NodePool nodes, long nanos) {
        return compile(schema, options, nodes, new Budget(FORMULAS, STEPS, nanos));
    }

    static int compile(String schema, JsonOptions options, NodePool nodes, Budget budget) {
        try {
            var terms = new Terms(nodes.regexes(), options.spelling() == JsonOptions.Spelling.ANY ? Encoding.JSON_STRING
                    : Encoding.JSON_STRING_SHORTEST);
            var documents = new Documents(options.documents());
            var reader = new SchemaReader(documents, terms, budget, options.formats());
            Lang root = reader.schema(documents.load(schema), Scope.EMPTY);
            var writer = new NodeWriter(reader.langs, nodes, options);
            int node = writer.write(root);
            budget.end();
            return node;
        } catch (Refusal e) {
            throw e.at("");
        } catch (LimitException e) {
            throw new Refusal("", e.getMessage());
        } catch (StackOverflowError e) {
            throw new Refusal("", "the schema is nested too deeply for the stack of this thread");
        }
    }
}
