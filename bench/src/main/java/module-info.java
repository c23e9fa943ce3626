/**
 * Benchmarks and side-by-side comparisons. Open, because JMH and Jackson look into it.
 */
open module panamallama.bench {
    requires panamallama;
    requires panamallama.examples;
    requires panamallama.layers;
    requires panamallama.models;
    requires panamallama.quantization;
    requires info.picocli;
    requires java.compiler;
    requires java.desktop;
    requires java.management;
    requires jdk.compiler;
    requires static jdk.incubator.vector;
    requires jmh.core;
    requires xchart;
    requires tools.jackson.databind;

    exports io.github.panamallama.bench;
}
