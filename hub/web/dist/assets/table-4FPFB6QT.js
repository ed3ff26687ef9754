import{a,b}from"./chunk-ZN5OP2G2.js";import"./chunk-LNGV4ACR.js";export{b as DataTable,a as sorted};
