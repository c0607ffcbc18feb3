import com.sun.jdi.ClassType;
import com.sun.jdi.IncompatibleThreadStateException;
import com.sun.jdi.InterfaceType;
import com.sun.jdi.Location;
import com.sun.jdi.Method;
import com.sun.jdi.NativeMethodException;
import com.sun.jdi.ObjectCollectedException;
import com.sun.jdi.ObjectReference;
import com.sun.jdi.ReferenceType;
import com.sun.jdi.StackFrame;
import com.sun.jdi.ThreadReference;
import com.sun.jdi.Value;
import com.sun.jdi.VirtualMachine;
import com.sun.jdi.VirtualMachineManager;
import com.sun.jdi.connect.AttachingConnector;
import com.sun.jdi.connect.Connector;
import com.sun.jdi.event.Event;
import com.sun.jdi.event.EventSet;
import com.sun.jdi.event.LocatableEvent;
import com.sun.jdi.request.BreakpointRequest;
import com.sun.jdi.request.EventRequest;
import com.sun.jdi.request.StepRequest;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * One random debug session, that says at many moments what is true: Session PORT SEED MOMENTS IMPLEMENTATION.
 *
 * <p>At each moment it prints EXPECT and the state that it knows of by itself, and waits for a line; only then it asks
 * the JVM, so that what it asks cannot help anybody who listens, and prints TRUTH, the state, the thread's name, the
 * location and what was done last. A moment that was overtaken by an event is printed as SKIP.
 */
public class Session {
  private final VirtualMachine vm;
  private final Random chance;
  private final BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
  private final ArrayDeque<EventSet> came = new ArrayDeque<>(); // and were not noted yet
  private final List<ThreadReference> stopped = new ArrayList<>(); // the newest last
  private final Map<ThreadReference, Integer> counts = new HashMap<>(); // where they are not the VM's
  private int whole; // suspends of the VM
  private boolean isUnsure; // an event and a command crossed: which thread stopped last depends on which came first
  private int moments;
  private String action = "attach";

  Session(VirtualMachine vm, long seed, int moments) {
    this.vm = vm;
    this.chance = new Random(seed);
    this.moments = moments;
  }

  public static void main(String[] args) throws Exception {
    String bootstrap = args[3].equals("eclipse") ? "org.eclipse.jdi.Bootstrap" : "com.sun.jdi.Bootstrap";
    VirtualMachineManager manager =
        (VirtualMachineManager) Class.forName(bootstrap).getMethod("virtualMachineManager").invoke(null);
    for (AttachingConnector connector : manager.attachingConnectors()) {
      if (connector.transport().name().equals("dt_socket") && connector.defaultArguments().containsKey("port")) {
        Map<String, Connector.Argument> arguments = connector.defaultArguments();
        arguments.get("hostname").setValue("127.0.0.1");
        arguments.get("port").setValue(args[0]);
        VirtualMachine vm = connector.attach(arguments);
        Session session = new Session(vm, Long.parseLong(args[1]), Integer.parseInt(args[2]));
        try {
          session.run();
        } catch (Exception e) { // an event that overtook it
          System.out.println("LOST " + session.action + ": " + e + " " + e.getStackTrace()[0]);
        }
        vm.dispose();
        System.exit(0);
      }
    }
  }

  // What comes

  private EventSet poll(long millis) throws Exception {
    if (!came.isEmpty()) {
      return came.poll();
    }
    long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
    EventSet set;
    do {
      long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
      set = vm.eventQueue().remove(Math.max(1, left)); // 0 would wait for ever
    } while (set != null && set.suspendPolicy() == EventRequest.SUSPEND_NONE);
    return set;
  }

  /** Return whether nothing came that was not noted: all that the JVM sent before a reply is here when that is. */
  private boolean isQuiet() throws Exception {
    if (came.isEmpty()) {
      EventSet set = poll(1);
      if (set != null) {
        came.add(set);
      }
    }
    return came.isEmpty();
  }

  // What this side knows

  private int count(ThreadReference thread) {
    return counts.getOrDefault(thread, whole);
  }

  private void noteAll(int by) {
    whole = Math.max(0, whole + by);
    counts.replaceAll((thread, count) -> Math.max(0, count + by));
    stopped.removeIf(thread -> count(thread) == 0);
  }

  private void note(ThreadReference thread, int by) {
    counts.put(thread, Math.max(0, count(thread) + by));
    stopped.removeIf(each -> count(each) == 0);
  }

  private void resumeAll() throws Exception {
    List<ThreadReference> before = new ArrayList<>(stopped);
    noteAll(-1);
    vm.resume();
    lookForCrossing(before);
  }

  private void resume(ThreadReference thread) throws Exception {
    List<ThreadReference> before = new ArrayList<>(stopped);
    note(thread, -1);
    thread.resume();
    lookForCrossing(before);
  }

  /** A thread that an event suspended once more before it was resumed never ran: it still stands at its stop. */
  private void lookForCrossing(List<ThreadReference> before) throws Exception {
    before.removeAll(stopped);
    if (!before.isEmpty() && !isQuiet()) {
      EventSet set = came.peek();
      boolean isAlone = before.size() == 1 && before.get(0).equals(thread(set));
      isUnsure |= set.suspendPolicy() == EventRequest.SUSPEND_ALL && !isAlone;
    }
  }

  private static ThreadReference thread(EventSet set) {
    ThreadReference thread = null;
    for (Event event : set) {
      if (event instanceof LocatableEvent) {
        thread = ((LocatableEvent) event).thread();
      }
    }
    return thread;
  }

  private ThreadReference note(EventSet set) {
    ThreadReference thread = thread(set);
    if (set.suspendPolicy() == EventRequest.SUSPEND_ALL) {
      noteAll(1);
    } else if (thread != null) {
      note(thread, 1);
    }
    if (thread != null) {
      stopped.remove(thread);
      stopped.add(thread);
    }
    return thread;
  }

  private boolean noteEvents() throws Exception {
    boolean any = false;
    for (EventSet set = poll(1); set != null; set = poll(1)) {
      note(set);
      any = true;
    }
    return any;
  }

  private ThreadReference await() throws Exception {
    EventSet set = poll(2000);
    return set == null ? null : note(set);
  }

  private String state() {
    if (whole > 0) {
      return "suspended";
    }
    return counts.values().stream().anyMatch(count -> count > 0) ? "thread-suspended" : "running";
  }

  private ThreadReference current() {
    return stopped.isEmpty() ? null : stopped.get(stopped.size() - 1);
  }

  // What is compared

  private void moment(String expected) throws Exception {
    if (isUnsure) {
      System.out.println("SKIP");
      return;
    }
    for (int times = 0; times < 5; times++) {
      noteEvents();
      String state = expected != null ? expected : state();
      System.out.println("EXPECT " + state + (state.equals("running") || current() == null ? "" : " at a stop"));
      in.readLine();
      if (!noteEvents()) {
        String truth = null;
        try {
          truth = truth(state);
        } catch (IllegalStateException | IncompatibleThreadStateException e) {
          Thread.sleep(100);
          if (isQuiet()) {
            throw e;
          }
        }
        if (!noteEvents()) {
          System.out.println("TRUTH " + truth + "\t" + action);
          in.readLine();
          moments--;
          return;
        }
      }
      System.out.println("SKIP");
    }
  }

  private void moment() throws Exception {
    if (chance.nextInt(3) == 0 && current() != null) {
      look();
    }
    moment(null);
  }

  /** As the views of an IDE do. */
  private void look() throws Exception {
    for (ThreadReference thread : vm.allThreads()) {
      try {
        thread.name();
      } catch (ObjectCollectedException e) {
        continue; // it has ended meanwhile
      }
    }
    for (StackFrame frame : current().frames()) {
      describe(frame.location());
    }
  }

  private String truth(String state) throws Exception {
    boolean agrees = true;
    for (ThreadReference thread : vm.allThreads()) {
      try {
        agrees &= thread.suspendCount() == count(thread);
      } catch (ObjectCollectedException e) {
        continue; // it has ended meanwhile
      }
    }
    // A thread that was started while others were resumed one by one has inherited the VM's suspend.
    if (!agrees && !action.startsWith("all resumed")) {
      throw new IllegalStateException(action + ": " + state + " is not true: " + counted());
    }
    ThreadReference thread = state.equals("running") ? null : current();
    if (thread == null) {
      return state + "\t-\t-";
    }
    return state + "\t" + thread.name() + "\t" + describe(thread.frame(0).location());
  }

  private static String describe(Location location) {
    String name = location.declaringType().name();
    int line = location.lineNumber();
    return name + "." + location.method().name() + (line > 0 ? ":" + line : "");
  }

  // What is done

  void run() throws Exception {
    while (moments > 0) {
      release();
      action = "released";
      if (chance.nextInt(4) == 0) {
        moment();
      }
      switch (chance.nextInt(8)) {
        case 0 -> suspendTheVm();
        case 1 -> suspendAThread();
        case 2 -> suspendAnEndedThread();
        default -> stopAtABreakpoint();
      }
    }
  }

  private void release() throws Exception {
    vm.eventRequestManager().deleteAllBreakpoints();
    vm.eventRequestManager().deleteEventRequests(new ArrayList<>(vm.eventRequestManager().stepRequests()));
    do {
      noteEvents();
      while (whole > 0) {
        resumeAll();
      }
      for (ThreadReference thread : new ArrayList<>(counts.keySet())) {
        while (count(thread) > 0) {
          resume(thread);
        }
      }
      counts.clear();
      Thread.sleep(30);
    } while (!isQuiet());
    isUnsure = false;
  }

  private void suspendTheVm() throws Exception {
    vm.suspend();
    noteAll(1);
    action = "vm.suspend";
    moment();
    if (chance.nextBoolean()) {
      action = "all resumed one by one";
      for (ThreadReference thread : vm.allThreads()) {
        resume(thread);
      }
      moment("running");
      counts.clear();
      noteAll(-1);
      vm.resume();
    } else {
      action = "vm.resume";
      resumeAll();
      moment();
    }
  }

  private void suspendAThread() throws Exception {
    ThreadReference thread = worker();
    thread.suspend();
    note(thread, 1);
    action = "thread.suspend";
    moment();
  }

  private ThreadReference worker() {
    List<ThreadReference> workers = new ArrayList<>(vm.allThreads());
    workers.removeIf(thread -> !thread.name().startsWith("worker-"));
    return workers.get(chance.nextInt(workers.size()));
  }

  private void suspendAnEndedThread() throws Exception {
    for (ThreadReference thread : vm.allThreads()) {
      if (thread.name().equals("brief")) {
        thread.disableCollection();
        Thread.sleep(600);
        action = "suspend of an ended thread";
        thread.suspend();
        moment("running");
        thread.resume();
        thread.enableCollection();
        return;
      }
    }
  }

  private static final String[][] PLACES = {
    {"Target", "nested"}, {"Target", "inner"}, {"Target", "depth"}, {"Target$Order", "price"},
    {"Target$Order", "total"}, {"Target$Order", "<init>"}, {"Target$Taxed", "taxed"}, {"Target$Taxed", "rate"},
    {"Target$Worker", "fails"}, {"Target$Worker", "lambda$work$0"}, {"Target", "pause"}, {"Big", null}, {"Big", null},
  };

  private ReferenceType type(String name) {
    if (chance.nextInt(10) == 0) {
      vm.allClasses();
    }
    return vm.classesByName(name).get(0);
  }

  private BreakpointRequest breakpoint(String[] place, int policy) throws Exception {
    ReferenceType type = type(place[0]);
    List<Location> locations;
    if (place[1] == null) {
      List<Location> all = type.allLineLocations(); // as for a breakpoint by line: of all methods
      locations = List.of(all.get(chance.nextInt(all.size())));
    } else {
      locations = type.methodsByName(place[1]).get(0).allLineLocations();
    }
    BreakpointRequest request =
        vm.eventRequestManager().createBreakpointRequest(locations.get(chance.nextInt(locations.size())));
    request.setSuspendPolicy(policy);
    return request;
  }

  private int policy() {
    return chance.nextBoolean() ? EventRequest.SUSPEND_ALL : EventRequest.SUSPEND_EVENT_THREAD;
  }

  private void stopAtABreakpoint() throws Exception {
    int policy = policy();
    breakpoint(PLACES[chance.nextInt(PLACES.length)], policy).enable();
    if (await() == null) {
      return;
    }
    action = "breakpoint";
    moment();
    for (int i = chance.nextInt(8); i > 0 && moments > 0 && current() != null; i--) {
      next(policy);
    }
  }

  private void next(int policy) throws Exception {
    switch (chance.nextInt(10)) {
      case 0 -> {
        vm.suspend();
        noteAll(1);
        action = "vm.suspend at a stop";
        moment();
        resumeAll();
        action = "vm.resume of it";
      }
      case 1 -> {
        ThreadReference other = worker();
        other.suspend();
        note(other, 1);
        action = "suspend of another thread";
        moment();
        if (chance.nextBoolean()) {
          resume(other);
          action = "resume of another thread";
        }
      }
      case 2 -> {
        if (stopped.size() < 2) {
          breakpoint(PLACES[chance.nextInt(PLACES.length)], EventRequest.SUSPEND_EVENT_THREAD).enable();
          await();
        }
        action = "a second stop";
        moment();
        if (current() != null) {
          letRun(current());
          action = "resume of the newest stop";
        }
      }
      case 3 -> pop();
      case 4, 5 -> invoke();
      default -> step(policy);
    }
    moment();
  }

  private void letRun(ThreadReference thread) throws Exception {
    int before = counts.containsKey(thread) ? count(thread) - whole : 0;
    if (before > 0) {
      resume(thread);
    } else {
      resumeAll();
    }
  }

  private void step(int policy) throws Exception {
    ThreadReference thread = current();
    vm.eventRequestManager().deleteEventRequests(new ArrayList<>(vm.eventRequestManager().stepRequests()));
    int depth = new int[] {StepRequest.STEP_INTO, StepRequest.STEP_OVER, StepRequest.STEP_OUT}[chance.nextInt(3)];
    StepRequest request = vm.eventRequestManager().createStepRequest(thread, StepRequest.STEP_LINE, depth);
    request.addClassExclusionFilter("java.*");
    request.addClassExclusionFilter("jdk.*");
    request.addClassExclusionFilter("sun.*");
    request.addCountFilter(1);
    request.setSuspendPolicy(policy);
    request.enable();
    action = "step";
    while (count(thread) > 0) {
      letRun(thread);
    }
    await();
  }

  private void pop() throws Exception {
    ThreadReference thread = current();
    try {
      if (thread.frameCount() > 2 && thread.frame(0).location().declaringType().name().startsWith("Target")) {
        thread.popFrames(thread.frame(0));
        action = "popFrames";
      }
    } catch (NativeMethodException | IncompatibleThreadStateException e) {
      action = "popFrames that failed";
    }
  }

  private void invoke() throws Exception {
    ThreadReference thread = current();
    boolean single = chance.nextBoolean();
    vm.eventRequestManager().deleteAllBreakpoints();
    vm.eventRequestManager().deleteEventRequests(new ArrayList<>(vm.eventRequestManager().stepRequests()));
    Thread.sleep(20); // for events that are on their way
    noteEvents();
    boolean others = counts.entrySet().stream().anyMatch(e -> e.getKey() != thread && e.getValue() > whole);
    if (thread != current() || count(thread) != 1 || whole > 1 || others) {
      return; // it would stay suspended, and the method would never run
    }
    int options = single ? ObjectReference.INVOKE_SINGLE_THREADED : 0;
    ClassType target = (ClassType) type("Target");
    InterfaceType taxed = (InterfaceType) type("Target$Taxed");
    ClassType order = (ClassType) type("Target$Order");
    Method nested = target.methodsByName("nested").get(0);
    Method rate = taxed.methodsByName("rate").get(0);
    Method constructor = order.methodsByName("<init>").get(0);
    List<Value> one = List.of(vm.mirrorOf(1));
    ObjectReference self = thread.frame(0).location().method().isStatic() ? null : thread.frame(0).thisObject();
    int kind = chance.nextInt(4);
    boolean stops = chance.nextBoolean();
    BreakpointRequest inside = stops ? breakpoint(PLACES[1], policy()) : null;
    if (inside != null) {
      inside.addThreadFilter(thread);
      inside.enable();
    }
    action = (single ? "single-threaded" : "multi-threaded") + " invoke " + kind + (stops ? " with a stop" : "");
    CompletableFuture<Object> result =
        CompletableFuture.supplyAsync(
            () -> {
              try {
                return switch (kind) {
                  case 0 -> taxed.invokeMethod(thread, rate, one, options);
                  case 1 -> order.newInstance(thread, constructor, one, options);
                  case 2 -> self == null
                      ? target.invokeMethod(thread, nested, one, options)
                      : self.invokeMethod(
                          thread, self.referenceType().methodsByName("toString").get(0), List.of(), options);
                  default -> target.invokeMethod(thread, nested, one, options);
                };
              } catch (Exception e) {
                return e;
              }
            });
    String invoking = action;
    boolean begun = false;
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
    while (!result.isDone()) {
      if (System.nanoTime() > deadline) {
        throw new IllegalStateException(action + " does not end: " + counted());
      }
      EventSet set = poll(20);
      if (set != null) {
        isUnsure |= result.isDone(); // it came before the end or after
        if (!begun) {
          ThreadReference outer = thread;
          begun = true;
          stopped.remove(outer);
          run(outer, single, -1);
        }
        note(set);
        action = "within " + invoking;
        moment(null);
        action = "after a stop within " + invoking;
        while (count(thread) > 0) {
          letRun(thread);
        }
      }
    }
    Object end = result.get();
    if (end instanceof Exception) {
      if (begun) {
        throw (Exception) end;
      }
      action = "an invoke that failed";
      return;
    }
    isUnsure |= !isQuiet();
    if (!begun) {
      stopped.remove(thread);
      run(thread, single, -1);
    }
    run(thread, single, 1);
    stopped.remove(thread);
    stopped.add(thread);
  }

  private String counted() {
    StringBuilder text = new StringBuilder("whole " + whole);
    for (ThreadReference thread : vm.allThreads()) {
      text.append(" " + thread.name() + " " + thread.suspendCount() + "/" + count(thread));
    }
    return text.toString();
  }

  /** What an invoke does with threads before and after. */
  private void run(ThreadReference thread, boolean single, int by) {
    if (single) {
      note(thread, by);
    } else {
      noteAll(by);
    }
  }
}
