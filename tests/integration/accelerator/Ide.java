import com.sun.jdi.ArrayReference;
import com.sun.jdi.ClassType;
import com.sun.jdi.Field;
import com.sun.jdi.LocalVariable;
import com.sun.jdi.Location;
import com.sun.jdi.Method;
import com.sun.jdi.ObjectCollectedException;
import com.sun.jdi.ObjectReference;
import com.sun.jdi.PrimitiveValue;
import com.sun.jdi.ReferenceType;
import com.sun.jdi.StackFrame;
import com.sun.jdi.StringReference;
import com.sun.jdi.ThreadReference;
import com.sun.jdi.Value;
import com.sun.jdi.VirtualMachine;
import com.sun.jdi.VirtualMachineManager;
import com.sun.jdi.connect.AttachingConnector;
import com.sun.jdi.connect.Connector;
import com.sun.jdi.event.BreakpointEvent;
import com.sun.jdi.event.Event;
import com.sun.jdi.event.EventSet;
import com.sun.jdi.event.StepEvent;
import com.sun.jdi.request.BreakpointRequest;
import com.sun.jdi.request.EventRequest;
import com.sun.jdi.request.StepRequest;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A debug session as an IDE has it: Ide PORT IMPLEMENTATION CLASS METHOD FRAMES STEPS WORK.
 *
 * <p>It attaches, stops at a breakpoint in the method, shows the stack and all variables of so many frames, and steps so
 * often, showing the same each time. WORK is "look", or "change": then it also invokes methods, sets variables, pops
 * frames, and looks again after each. WORK "change-one" is the same while only the stop's thread is suspended, as VS
 * Code does it: all other threads run, and are asked for their names. It prints how long each part took, and what it saw as one number.
 */
public class Ide {
  private final VirtualMachine vm;
  private final int frames;
  private final boolean one; // thread is suspended, and not all
  private long seen = 1;
  private int looked;

  Ide(VirtualMachine vm, int frames, boolean one) {
    this.vm = vm;
    this.frames = frames;
    this.one = one;
  }

  public static void main(String[] args) throws Exception {
    String bootstrap = args[1].equals("eclipse") ? "org.eclipse.jdi.Bootstrap" : "com.sun.jdi.Bootstrap";
    VirtualMachineManager manager =
        (VirtualMachineManager) Class.forName(bootstrap).getMethod("virtualMachineManager").invoke(null);
    for (AttachingConnector connector : manager.attachingConnectors()) {
      Map<String, Connector.Argument> arguments = connector.defaultArguments();
      if (connector.transport().name().equals("dt_socket") && arguments.containsKey("port")) {
        arguments.get("hostname").setValue("127.0.0.1");
        arguments.get("port").setValue(args[0]);
        if (arguments.containsKey("timeout")) {
          arguments.get("timeout").setValue("60000");
        }
        long begun = System.nanoTime();
        Ide ide = new Ide(connector.attach(arguments), Integer.parseInt(args[4]), args[6].endsWith("-one"));
        ide.vm.allClasses();
        lap("attach", begun);
        ide.run(args[2], args[3], Integer.parseInt(args[5]), args[6].startsWith("change"));
        ide.vm.dispose();
        System.out.println("SEEN " + ide.looked + " " + ide.seen);
        System.exit(0);
      }
    }
  }

  private static void lap(String what, long begun) {
    System.out.printf("LAP %s %.3f%n", what, (System.nanoTime() - begun) / 1e9);
  }

  private void run(String type, String method, int steps, boolean changes) throws Exception {
    long begun = System.nanoTime();
    Method where = vm.classesByName(type).get(0).methodsByName(method).get(0);
    BreakpointRequest breakpoint =
        vm.eventRequestManager().createBreakpointRequest(where.allLineLocations().get(1));
    breakpoint.setSuspendPolicy(one ? EventRequest.SUSPEND_EVENT_THREAD : EventRequest.SUSPEND_ALL);
    breakpoint.enable();
    ThreadReference thread = waitFor(BreakpointEvent.class);
    breakpoint.disable();
    lap("breakpoint", begun);
    begun = System.nanoTime();
    showThreads();
    lap("threads", begun);
    begun = System.nanoTime();
    showStack(thread);
    lap("stack", begun);
    for (int i = 0; i < steps; i++) {
      begun = System.nanoTime();
      StepRequest step =
          vm.eventRequestManager().createStepRequest(thread, StepRequest.STEP_LINE, StepRequest.STEP_OVER);
      step.addCountFilter(1);
      step.setSuspendPolicy(one ? EventRequest.SUSPEND_EVENT_THREAD : EventRequest.SUSPEND_ALL);
      step.enable();
      if (one) {
        thread.resume();
      } else {
        vm.resume();
      }
      thread = waitFor(StepEvent.class);
      vm.eventRequestManager().deleteEventRequest(step);
      showStack(thread);
      lap("step", begun);
      if (changes) {
        change(thread, i);
      }
    }
    vm.resume();
  }

  private ThreadReference waitFor(Class<? extends Event> kind) throws Exception {
    while (true) {
      EventSet set = vm.eventQueue().remove();
      for (Event event : set) {
        if (kind.isInstance(event)) {
          return event instanceof StepEvent ? ((StepEvent) event).thread() : ((BreakpointEvent) event).thread();
        }
      }
      set.resume();
    }
  }

  private void see(Object thing) {
    looked++;
    seen = seen * 31 + String.valueOf(thing).hashCode();
  }

  private void showThreads() throws Exception {
    for (ThreadReference each : vm.allThreads()) {
      if (one) {
        showRunning(each);
        continue;
      }
      see(each.name());
      see(each.status());
      see(each.threadGroup() == null ? "it has ended" : each.threadGroup().name());
      see(each.frameCount());
      for (StackFrame frame : each.frames()) {
        showLocation(frame.location());
      }
    }
  }

  private void showRunning(ThreadReference thread) {
    try {
      see(thread.isCollected() ? "it is gone" : thread.name());
      see(thread.threadGroup() == null ? "it has ended" : thread.threadGroup().name());
    } catch (ObjectCollectedException | IllegalThreadStateException e) {
      see("it has ended meanwhile");
    }
  }

  private void showLocation(Location location) throws Exception {
    see(location.declaringType().name());
    see(location.method().name());
    see(location.lineNumber());
    try {
      see(location.sourceName());
    } catch (com.sun.jdi.AbsentInformationException e) {
      see("no source");
    }
  }

  private void showStack(ThreadReference thread) throws Exception {
    List<StackFrame> stack = thread.frames();
    for (int i = 0; i < stack.size(); i++) {
      StackFrame frame = stack.get(i);
      showLocation(frame.location());
      if (i < frames) {
        show(frame.thisObject(), 0);
        try {
          for (LocalVariable variable : frame.visibleVariables()) {
            see(variable.name());
            see(variable.typeName());
            show(frame.getValue(variable), 1);
          }
        } catch (com.sun.jdi.AbsentInformationException e) {
          see("no variables");
        }
      }
    }
  }

  private void show(Value value, int depth) {
    if (value == null || value instanceof PrimitiveValue) {
      see(value);
    } else if (value instanceof StringReference) {
      see(((StringReference) value).value());
    } else if (value instanceof ArrayReference) {
      see(((ArrayReference) value).length());
    } else if (value instanceof ObjectReference) {
      ObjectReference object = (ObjectReference) value;
      see(object.referenceType().name());
      if (depth == 0) {
        for (Field field : object.referenceType().allFields()) {
          see(field.name());
          if (!field.isStatic()) {
            show(object.getValue(field), depth + 1);
          }
        }
      }
    }
  }

  /** Do one thing that has an effect, and look at everything again. */
  private void change(ThreadReference thread, int i) throws Exception {
    StackFrame frame = thread.frame(0);
    switch (i % 4) {
      case 0:
        for (LocalVariable variable : frame.visibleVariables()) {
          if (variable.typeName().equals("int")) {
            frame.setValue(variable, vm.mirrorOf(i % 3));
          }
        }
        break;
      case 1:
        ObjectReference self = frame.thisObject();
        ReferenceType type = self == null ? null : self.referenceType();
        if (type != null) {
          Method toString = type.methodsByName("toString", "()Ljava/lang/String;").get(0);
          int options = one ? ObjectReference.INVOKE_SINGLE_THREADED : 0;
          show(self.invokeMethod(thread, toString, new ArrayList<>(), options), 1);
        }
        break;
      case 2:
        vm.suspend();
        showThreads();
        vm.resume();
        break;
      default:
        ClassType string = (ClassType) vm.classesByName("java.lang.String").get(0);
        Method valueOf = string.methodsByName("valueOf", "(I)Ljava/lang/String;").get(0);
        show(string.invokeMethod(thread, valueOf, List.of(vm.mirrorOf(i)), ObjectReference.INVOKE_SINGLE_THREADED), 1);
    }
    showStack(thread);
    showThreads();
  }
}
