import com.microsoft.java.debug.core.DebugSettings;
import com.microsoft.java.debug.core.IEvaluatableBreakpoint;
import com.microsoft.java.debug.core.adapter.HotCodeReplaceEvent;
import com.microsoft.java.debug.core.adapter.ICompletionsProvider;
import com.microsoft.java.debug.core.adapter.IEvaluationProvider;
import com.microsoft.java.debug.core.adapter.IHotCodeReplaceProvider;
import com.microsoft.java.debug.core.adapter.ISourceLookUpProvider;
import com.microsoft.java.debug.core.adapter.IVirtualMachineManagerProvider;
import com.microsoft.java.debug.core.adapter.ProtocolServer;
import com.microsoft.java.debug.core.adapter.ProviderContext;
import com.sun.jdi.Method;
import com.sun.jdi.ObjectReference;
import com.sun.jdi.ThreadReference;
import com.sun.jdi.Value;
import com.sun.jdi.VirtualMachineManager;
import io.reactivex.Observable;
import java.io.PrintStream;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;

/**
 * VS Code's debug engine on standard input and output: VsCode JDI-BOOTSTRAP CLASS SHOWS-TO-STRING.
 *
 * <p>The editor's part is left out: every breakpoint is in CLASS, and no expression is evaluated. Whether the engine
 * shows objects by their toString(), which it invokes, is a setting of VS Code, on by default.
 */
public class VsCode {
  public static void main(String[] args) throws Exception {
    PrintStream out = System.out;
    System.setOut(System.err);
    VirtualMachineManager manager =
        (VirtualMachineManager) Class.forName(args[0]).getMethod("virtualMachineManager").invoke(null);
    DebugSettings.getCurrent().showToString = Boolean.parseBoolean(args[2]);
    ProviderContext context = new ProviderContext();
    context.registerProvider(IVirtualMachineManagerProvider.class, (IVirtualMachineManagerProvider) () -> manager);
    context.registerProvider(ISourceLookUpProvider.class, new Sources(args[1]));
    context.registerProvider(IEvaluationProvider.class, new Invocations());
    context.registerProvider(IHotCodeReplaceProvider.class, new NoReplacing());
    context.registerProvider(ICompletionsProvider.class, (ICompletionsProvider) (frame, text, line, column) -> List.of());
    new ProtocolServer(System.in, out, context).run();
  }

  private static class Sources implements ISourceLookUpProvider {
    private final String type;

    Sources(String type) {
      this.type = type;
    }

    @Override
    public boolean supportsRealtimeBreakpointVerification() {
      return false;
    }

    @Override
    public String[] getFullyQualifiedName(String uri, int[] lines, int[] columns) {
      String[] names = new String[lines.length];
      Arrays.fill(names, type);
      return names;
    }

    @Override
    public String getSourceFileURI(String name, String path) {
      return null;
    }

    @Override
    public String getSourceContents(String uri) {
      return "";
    }
  }

  private static class Invocations implements IEvaluationProvider {
    @Override
    public boolean isInEvaluation(ThreadReference thread) {
      return false;
    }

    @Override
    public CompletableFuture<Value> evaluate(String expression, ThreadReference thread, int depth) {
      return CompletableFuture.failedFuture(new UnsupportedOperationException());
    }

    @Override
    public CompletableFuture<Value> evaluate(String expression, ObjectReference self, ThreadReference thread) {
      return CompletableFuture.failedFuture(new UnsupportedOperationException());
    }

    @Override
    public CompletableFuture<Value> evaluateForBreakpoint(IEvaluatableBreakpoint breakpoint, ThreadReference thread) {
      return CompletableFuture.failedFuture(new UnsupportedOperationException());
    }

    @Override
    public CompletableFuture<Value> invokeMethod(
        ObjectReference self, String name, String signature, Value[] args, ThreadReference thread, boolean isSuper) {
      CompletableFuture<Value> result = new CompletableFuture<>();
      try {
        Method method = self.referenceType().methodsByName(name, signature).get(0);
        List<Value> values = args == null ? List.of() : Arrays.asList(args);
        result.complete(self.invokeMethod(thread, method, values, ObjectReference.INVOKE_SINGLE_THREADED));
      } catch (Exception e) {
        result.completeExceptionally(e);
      }
      return result;
    }

    @Override
    public void clearState(ThreadReference thread) {}
  }

  private static class NoReplacing implements IHotCodeReplaceProvider {
    @Override
    public void onClassRedefined(Consumer<List<String>> consumer) {}

    @Override
    public CompletableFuture<List<String>> redefineClasses() {
      return CompletableFuture.completedFuture(List.of());
    }

    @Override
    public Observable<HotCodeReplaceEvent> getEventHub() {
      return Observable.never();
    }
  }
}
