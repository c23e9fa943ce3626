/** The command line and small programs. */
module panamallama.examples {
    requires info.picocli;
    requires org.jline.reader;
    requires org.jline.terminal;
    requires panamallama;
    requires tools.jackson.databind;

    opens io.github.panamallama.examples.cli to info.picocli, tools.jackson.databind;
}
