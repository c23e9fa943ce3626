package io.github.panamallama.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.w3c.dom.Document;
import org.w3c.dom.Element;

/** The BOM, which has no parent to take anything from, names every artifact of a release in the version of this build. */
class BomTest {
    /** Not released, or not an artifact that an application depends on. */
    private static final Set<String> OTHERS = Set.of("bom", "ggml-src", "bench", "tests");

    @Test
    void theBomNamesEveryModuleInThisVersion() throws Exception {
        var root = read("pom.xml");
        var bom = read("bom/pom.xml");
        var version = child(root.getDocumentElement(), "version");
        assertEquals(version, child(bom.getDocumentElement(), "version"));
        assertEquals(child(root.getDocumentElement(), "groupId"), child(bom.getDocumentElement(), "groupId"));

        var named = new HashSet<String>();
        for (var dependency : elements(bom, "dependency")) {
            assertEquals("${project.version}", child(dependency, "version"));
            assertTrue(named.add(child(dependency, "artifactId") + " " + child(dependency, "classifier")), "twice: " + named);
        }
        var expected = new HashSet<String>();
        for (var module : elements(root, "module")) {
            if (!OTHERS.contains(module.getTextContent())) {
                expected.add(child(read(module.getTextContent() + "/pom.xml").getDocumentElement(), "artifactId") + " ");
            }
        }
        // a profile of the root per platform names the classifier of its natives
        elements(root, "natives.classifier").stream().map(Element::getTextContent).filter(name -> !name.equals("unknown"))
                .forEach(classifier -> expected.add("panama-llama-natives " + classifier));
        assertEquals(expected, named);
    }

    private static Document read(String path) throws Exception {
        return DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(Project.HOME.resolve(Path.of(path)).toFile());
    }

    private static List<Element> elements(Document document, String name) {
        var nodes = document.getElementsByTagName(name);
        var found = new ArrayList<Element>();
        for (int i = 0; i < nodes.getLength(); i++) {
            found.add((Element) nodes.item(i));
        }
        return found;
    }

    /** Text of a direct child, empty where there is none. */
    private static String child(Element parent, String name) {
        for (var node = parent.getFirstChild(); node != null; node = node.getNextSibling()) {
            if (node instanceof Element element && element.getTagName().equals(name)) {
                return element.getTextContent().strip();
            }
        }
        return "";
    }
}
